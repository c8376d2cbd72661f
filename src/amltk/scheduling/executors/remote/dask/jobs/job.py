"""Jobs of dask-jobqueue whose failures are told, and do not stop the cluster."""

from __future__ import annotations

import logging
import re
import shlex
from typing import TYPE_CHECKING, Any, ClassVar

from dask import config
from distributed.core import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amltk.scheduling.executors.remote.dask.jobs.logs import JobLogs
    from amltk.scheduling.executors.remote.dask.jobs.watch import JobWatch

_log = logging.getLogger(__name__)

_FAILED_COMMAND = re.compile(r"Exit code: (-?\d+)\nCommand:\n(.*)\nstdout:\n(.*)\nstderr:\n(.*)", re.DOTALL)
"""How dask-jobqueue reports a command that has failed."""

HINTS = {
    r"partition|queue": "queue",
    r"memory": "memory",
    r"time ?limit|walltime|wall time": "walltime",
    r"account": "account",
    r"node configuration|cpu|processors": "cores",
    r"feature|constraint|qos|gres|gpu": "job_extra_directives",
}
"""Which option it is that a batch system complains about, by words in its complaint."""


class WatchedJob:
    """Goes before a class of dask-jobqueue among the bases of a class of jobs.

    Attributes:
        logs: Where jobs write, unless the user's options say so.
        watch: Is told what happens to them.
        written: The names that the user has written instead of those of dask-jobqueue, for messages.
        commands: The commands that the user has given, by the attributes that have them.
        announced: What the command that submits it has printed, once it has.
    """

    logs: ClassVar[JobLogs]
    watch: ClassVar[JobWatch]
    written: ClassVar[Mapping[str, str]]
    commands: ClassVar[Mapping[str, str]]

    _call: ClassVar[Any]
    submit_command: str
    config_name: str
    job_id: str | None
    name: Any
    status: Status
    announced: str = ""

    def __init__(self, scheduler: Any = None, name: Any = None, **options: Any) -> None:
        set_elsewhere = config.get(f"jobqueue.{options.get('config_name') or self.config_name}.log-directory", None)
        if options.get("log_directory") is None and set_elsewhere is None and self.logs.folder is not None:
            options["log_directory"] = str(self.logs.folder)
        self.given = options
        super().__init__(scheduler, name, **options)  # type: ignore[call-arg] # of the class after this one
        vars(self).update(self.commands)  # HTCondor's class sets its own

    async def start(self) -> None:
        """Submit it. A failure is told to the watch; to Dask the job is one that has not connected yet."""
        try:
            await super().start()  # type: ignore[misc] # of the class after this one
        except (RuntimeError, ValueError, OSError) as error:
            self.status = Status.running
            is_final = isinstance(error, OSError)  # there is no such command
            self.watch.refused(self, explain_refusal(error, self.given, self.written), is_final=is_final)
        else:
            self.watch.submitted(self)

    async def _submit_job(self, script: str) -> str:
        """Run the command that submits it; returns what that has printed."""
        if not getattr(self, "use_stdin", False):
            return str(await super()._submit_job(script))  # type: ignore[misc] # of the class after this one
        # For LSF. dask-jobqueue would send what bsub complains of to /dev/null.
        return str(await self._call([f"{self.submit_command} < {shlex.quote(script)}"], shell=True))

    def _job_id_from_submit_output(self, out: str) -> str:
        """Its number, as dask-jobqueue finds it in that."""
        self.announced = out
        return str(super()._job_id_from_submit_output(out))  # type: ignore[misc] # of the class after this one

    async def close(self) -> None:
        """Cancel it."""
        self.watch.closed(self)
        try:
            await super().close()  # type: ignore[misc] # of the class after this one
        except OSError as error:  # there is no such command
            _log.warning("job %s cannot be cancelled: %s", self.job_id, error)
        self.status = Status.closed


def explain_refusal(error: Exception, options: Mapping[str, Any], written: Mapping[str, str]) -> str:
    """What a batch system said when it refused a job, and which option that may be about."""
    found = _FAILED_COMMAND.search(str(error))
    if found is None:
        return f"no job can be submitted: {error}"
    code, command, out, errors = found.groups()
    said = [part.strip() for part in (errors, out) if part.strip()]  # oarsub says it on the one, bsub on the other
    words = "\n".join(said) or f"exit code {code}, and no words"
    name = command.split()[0].rpartition("/")[2]
    quoted = "\n".join(f"    {line}" for line in words.splitlines())
    given = [
        f"{written.get(option, option)}={options[option]!r}"
        for pattern, option in HINTS.items()
        if options.get(option) is not None and re.search(pattern, words, re.IGNORECASE)
    ]
    about = f"\nLook at {', '.join(given)}." if given else ""
    return f"{name} refuses the job:\n{quoted}{about}"
