"""The executor whose calls are jobs of Slurm, one each."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from amltk._checks import check_optional_count, check_seconds, one_given
from amltk._notes import add_note
from amltk._process.program import import_path
from amltk.exceptions import PoolBrokenError, WorkerLostError
from amltk.scheduling._admission.amounts import UNIT
from amltk.scheduling.executors.cluster_workers import FirstWorker
from amltk.scheduling.executors.remote.executor import PlacingExecutor, RemoteFuture
from amltk.scheduling.executors.remote.slurm_jobs import slurm
from amltk.scheduling.executors.remote.slurm_jobs.call_files import FOLDER_MODE, CallFiles, left_in
from amltk.scheduling.executors.remote.slurm_jobs.in_file import InFile
from amltk.scheduling.executors.remote.slurm_jobs.job_state import Job
from amltk.scheduling.executors.remote.slurm_jobs.options import arguments, asked_for, check_options
from amltk.scheduling.executors.remote.slurm_jobs.watcher import Watcher
from amltk.scheduling.executors.remote.slurm_states import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from amltk.scheduling._admission.cluster import WorkerKind
    from amltk.scheduling.executors.capabilities import Identify, Identity
    from amltk.scheduling.executors.process_pool.binding import Binding
    from amltk.scheduling.executors.remote.executor import Lend
    from amltk.scheduling.executors.remote.slurm_jobs.slurm import Listed
    from amltk.types import Duration

_log = logging.getLogger(__name__)

FOLDER = "amltk-jobs"
"""The folder, in the working directory, with the files of jobs of runs without a journal."""

COMMAND = """import sys
sys.path += [entry for entry in {path!a} if entry not in sys.path]
from {module} import main
main({folder!a}, {name!a})"""
"""What a job's interpreter is told to do."""

MODULE = f"{__package__}.job"

SHARED = "shared"
"""The folder, beside those of calls, with the contents of shared objects."""


def make(
    *,
    max_jobs: int | None = None,
    max_workers: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    prologue: Sequence[str] = (),
    poll_interval: Duration = 5.0,
    **options: Any,
) -> SlurmJobsExecutor:
    """Create an executor whose calls are jobs.

    Args:
        max_jobs: How many jobs there are at most; None for any number.
        max_workers: The same.
        folder: Where the files of jobs are without a journal; None for `amltk-jobs` in the working directory.
        prologue: Lines of shell that each job begins with.
        poll_interval: How long to wait between two questions to Slurm.
        **options: Options of `sbatch`.

    Raises:
        FileNotFoundError: There is no `sbatch`.
        ValueError: `max_jobs` is below 1, or an option cannot be given.
        TypeError: `prologue` is a text, or an argument has another wrong type.
    """
    counts = {"max_jobs": max_jobs, "max_workers": max_workers}
    max_jobs = one_given(**{name: check_optional_count(name, given) for name, given in counts.items()})
    pause = check_seconds("poll_interval", poll_interval, above_zero=True)
    if isinstance(prologue, str) or not all(isinstance(line, str) for line in prologue):
        raise TypeError(f"prologue={prologue!r}: must be a list of lines, such as ['module load cuda']")
    options = check_options(options)
    slurm.check_commands()
    place = Path(FOLDER if folder is None else folder).expanduser().absolute()
    return SlurmJobsExecutor(options, place, tuple(prologue), pause, max_jobs)


@contextmanager
def lend(units: int) -> Iterator[tuple[tuple[str, ...], Binding | None]]:
    """The GPUs that Slurm has given to the job of this call; its process sees no others."""
    variables = (os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"))
    ids = next(filter(None, variables), "").split(",")
    yield tuple(ids[: units // UNIT]), None


class SlurmJobsExecutor(PlacingExecutor):
    """Computes each call in a job of Slurm. A job that is lost costs its call; cancelling a call cancels its job.

    Jobs go on when this program dies. In a run with a journal they are found again, by the folders of their calls.
    It has many methods, nearly all of them short, since three parties call it: the run, the journal, and the watcher.

    Args:
        options: The options of `sbatch` for each job.
        folder: Where the folders of calls are, without a journal.
        prologue: Lines of shell that each job begins with.
        pause: How many seconds pass between two questions to Slurm.
        max_jobs: How many jobs there are at most; None for any number.
    """

    place = "the Slurm cluster"
    remedy = "ask for less"
    is_open = True  # Slurm itself says what it does not have
    lend: ClassVar[Lend] = staticmethod(lend)

    def __init__(
        self, options: Mapping[str, Any], folder: Path, prologue: Sequence[str], pause: float, max_jobs: int | None
    ) -> None:
        super().__init__()
        self._options = options
        self._base = folder
        self._own: Path | None = None  # the folder of this executor, for runs without a journal
        self._prologue = prologue
        self._max_jobs = max_jobs
        self._watcher = Watcher(self, pause, max_jobs)
        self._names = itertools.count()
        self._jobs: dict[Job, None] = {}  # those whose calls have not ended
        self._journal: Path | None = None  # the folder of the jobs of a run with a journal
        self._identify: Identify = _unknown
        self._ended_among: Callable[[Iterable[str]], set[str]] = set
        self._left: list[CallFiles] = []  # by earlier programs
        self._held: deque[Job] = deque()  # until their calls are recorded
        self._told: deque[Job] = deque()  # whose outcomes may not be recorded yet
        self._leaves = False
        self._first_worker = FirstWorker()

    @property
    def n_workers(self) -> int:
        """How many jobs there are at most; 0 if that is not limited."""
        return self._max_jobs or 0

    def declared(self) -> tuple[WorkerKind, ...]:
        """Nothing: Slurm itself knows what its nodes have."""
        return ()

    def running_calls(self) -> list[RemoteFuture]:
        """The calls that their jobs have begun."""
        return [job.call for job in list(self._jobs) if job.has_begun]

    def when_up(self, fn: Callable[[], object] | None) -> None:
        """Call `fn` once, on any thread, when a job has begun; None for nothing."""
        self._first_worker.tell(fn)
        if fn is not None and self.running_calls():
            self._first_worker.is_up()

    def driver_address(self) -> str | None:
        """The address with which this machine reaches Slurm's controller, as the nodes do."""
        return slurm.own_address()

    def why_waiting(self, call: RemoteFuture) -> str | None:
        """What its job waits for, as Slurm says."""
        job: Job | None = call.handle
        if job is None or job.has_begun:
            return None
        asks = " ".join(arguments({}, job.options))
        asking = f", asking for {asks}" if asks else ""
        if not job.number:
            return f"waits to be submitted as a job of {self.place}{asking}"
        reason = f": {job.reason}" if job.reason not in {"", "None"} else ""
        return f"its job {job.number} of {self.place} is {job.state.lower() or 'new'}{asking}{reason}"

    # ------------------------------------------------------------------ in a run with a journal

    def attach_journal(
        self, folder: Path, identify: Identify, ended_among: Callable[[Iterable[str]], set[str]]
    ) -> None:
        """As in `AdoptingExecutor`."""
        self._journal, self._identify, self._leaves = folder, identify, False
        self._ended_among = ended_among
        self._left = left_in(folder)

    def note_recorded(self) -> None:
        """As in `AdoptingExecutor`."""
        if self._leaves:
            return
        known = []
        if self._left:
            left, self._left = self._left, []
            ended = self._ended_among(files.path.name for files in left)
            self._watcher.clear(files for files in left if files.path.name in ended)
        while self._held:
            job = self._held.popleft()
            if job not in self._jobs:
                continue  # it was cancelled
            job.identity = self._identify(job.call)
            if job.identity is not None:
                job.name = job.identity.name
                known.append(job)
        if known:
            self._watcher.put(known)
        for _ in range(len(self._told)):
            job = self._told.popleft()
            if self._identify(job.call) is None:
                self._tidy(job)
            else:
                self._told.append(job)

    def has_call(self, identity: Identity) -> bool:
        """As in `AdoptingExecutor`."""
        assert self._journal is not None, "there is one"
        return _find(self._journal, identity) is not None

    def leave_calls(self) -> None:
        """As in `AdoptingExecutor`."""
        if self._leaves:
            return
        self._leaves = True
        self._held.clear()
        self._told.clear()
        self._watcher.leave()
        numbers = [job.number for job in list(self._jobs) if job.number]
        if numbers:
            _log.warning(
                "%d jobs of Slurm go on, and a run with the same journal takes their outcomes; to end them: scancel %s",
                len(numbers),
                " ".join(numbers),
            )

    def detach_journal(self) -> None:
        """As in `AdoptingExecutor`."""
        while self._told:
            self._tidy(self._told.popleft())
        self._journal, self._identify = None, _unknown

    # ------------------------------------------------------------------ calls

    def _send(self, call: RemoteFuture, payload: bytes) -> None:
        options = asked_for(call.wanted, call.needs_time)
        folder = self._journal or self._own_folder()
        call.handle = job = Job(call, payload, options, folder, str(next(self._names)))
        self._jobs[job] = None
        if self._journal is None:
            self._watcher.put([job])
        else:
            self._held.append(job)

    def put_shared(self, contents: memoryview) -> InFile:
        """Put the contents of a shared object into a file, which jobs map."""
        return InFile.make((self._journal or self._own_folder()) / SHARED, contents)

    def _own_folder(self) -> Path:
        while self._own is None:
            self._base.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another program has just removed it, since it was empty
                self._own = Path(tempfile.mkdtemp(prefix=time.strftime("%Y-%m-%d-%H%M-"), dir=self._base))
        return self._own

    def withdraw(self, call: RemoteFuture) -> bool:
        """Cancel its job, whether it has begun or not; unless jobs are to go on."""
        job: Job | None = call.handle
        if job is not None and self._remove(job) and not self._leaves:
            self._drop(job)
        return True

    def _kill(self) -> bool:
        for job in list(self._jobs):
            if self._remove(job) and not self._leaves:
                self._drop(job)
        return True

    def _remove(self, job: Job) -> bool:
        """Forget a job whose call has ended; whether it was known. From any thread."""
        try:
            del self._jobs[job]
        except KeyError:
            return False
        return True

    def _drop(self, job: Job) -> None:
        if job.identity is None:  # it was not submitted by this program, but perhaps by an earlier one
            job.identity = self._identify(job.call)
        self._watcher.drop(job)

    def _tidy(self, job: Job) -> None:
        if job.files is not None:
            self._watcher.tidy(job.files)

    def _close(self, *, wait: bool) -> None:  # noqa: ARG002 - jobs that were to be cancelled are
        self._watcher.close()
        if self._own is not None:
            shutil.rmtree(self._own / SHARED, ignore_errors=True)
            with contextlib.suppress(OSError):  # something was printed
                self._own.rmdir()
                self._base.rmdir()

    # ------------------------------------------------------------------ for the watcher, on its thread

    def find(self, job: Job) -> CallFiles | None:
        """The folder of a call, if an earlier program has made it."""
        return None if job.identity is None else _find(job.folder, job.identity)

    def make(self, job: Job) -> CallFiles:
        """Make the folder of a call."""
        path = job.folder / job.name
        if path.exists():
            _set_aside(CallFiles(path))
        what = b"" if job.identity is None else job.identity.what
        files = CallFiles.make(path, job.payload, self._script, what)
        job.payload = b""
        return files

    def _script(self, folder: Path, name: str) -> str:
        command = COMMAND.format(path=import_path(), module=MODULE, folder=str(folder), name=name)
        return "\n".join(["#!/bin/sh", *self._prologue, f"{shlex.quote(sys.executable)} -c {shlex.quote(command)}", ""])

    def arguments(self, job: Job) -> list[str]:
        """The arguments of sbatch for a call."""
        assert job.files is not None, "it has a folder"
        ours = {
            "job_name": job.files.job_name,
            "output": str(job.files.output).replace("%", "%%"),
            "open_mode": "append",
            "comment": job.call.name,
            "no_requeue": not self._options.get("requeue"),
        }
        return arguments({**ours, **self._options}, job.options)

    def begin(self, job: Job, nodes: str) -> None:
        """Note that a job has begun."""
        job.call.place = f"{nodes}, in job {job.number}" if nodes else f"job {job.number}"
        job.call.begin()
        self._first_worker.is_up()

    def take(self, job: Job, outcome: bytes) -> None:
        """Take the outcome of a call."""
        self._first_worker.is_up()  # it may have begun and ended between two looks
        self._end(job, outcome=outcome)

    def lose(self, job: Job, known: Listed | None) -> None:
        """Note that a job has ended without an outcome."""
        assert job.files is not None, "it was submitted"
        said = job.files.last_words()
        how = "Slurm knows nothing of it any more" if known is None else known.in_words()
        kind = WorkerLostError if known is None else KINDS.get(known.state, WorkerLostError)
        error = self.lost(job.call, f"job {job.number} of {self.place} has ended ({how})", kind)
        error.exit_code = (known and known.exit_code) or None
        add_note(
            error, f"the end of {job.files.output}:\n{said}" if said else f"it has printed nothing: {job.files.path}"
        )
        self._end(job, error=error)

    def refuse(self, job: Job, error: Exception) -> None:
        """Note that a job cannot be submitted."""
        add_note(error, f"raised while submitting {job.call.name} as a job, {' '.join(self._said_of(job))}")
        self._end(job, error=error)

    def _said_of(self, job: Job) -> list[str]:
        return arguments(self._options, job.options) or ["with no options"]

    def fail(self, error: Exception) -> None:
        """Note that the watcher itself has failed: no call will end any more."""
        self._broken = f"what watches the jobs of Slurm has failed: {error!r}"
        for job in list(self._jobs):
            broken = PoolBrokenError(self._broken)
            broken.__cause__ = error
            self._end(job, error=broken)

    def _end(self, job: Job, outcome: bytes | None = None, error: Exception | None = None) -> None:
        if self._leaves or not self._remove(job):
            return  # the next program is told; or it was cancelled
        if job.identity is None:
            self._tidy(job)
        else:
            self._told.append(job)
        self.end(job.call, outcome, error)


def _unknown(call: Future[Any]) -> None:
    """What a call is recognised by without a journal: nothing."""


def _find(folder: Path, identity: Identity) -> CallFiles | None:
    files = CallFiles(folder / identity.name)
    what = files.what()
    return files if what is not None and identity.is_same(what) else None


def _set_aside(files: CallFiles) -> None:
    """Make room where a call was that is over, or that the program does not make any more: that is cancelled."""
    if files.what() is not None:
        slurm.cancel(job.number for job in slurm.queue().get(files.job_name, ()) if job.is_active)
    files.set_aside()
