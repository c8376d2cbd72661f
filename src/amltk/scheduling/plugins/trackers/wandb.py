"""Track calls with Weights & Biases."""

from __future__ import annotations

from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from amltk import _extras
from amltk.scheduling.plugins.trackers.tracker import Tracker

if TYPE_CHECKING:
    from os import PathLike

    from amltk.scheduling.plugins.trackers.record import Record

_EXIT_CODES = {"result": 0, "exception": 1, "cancelled": 255}  # shown as finished, failed and killed

_lock = Lock()
_open = 0  # how many plugins of this process are writing; they share one service


class WandbPlugin(Tracker):
    """Creates a [Weights & Biases](https://wandb.ai) run for each call of a task, when the call has ended.

    A run has the call's arguments as its config. Its summary has the result, if that is a number or a mapping of
    numbers; `outcome` (`result`, `exception` or `cancelled`); `exception`; the times `submitted`, `began` and `ended`;
    `seconds.total` and, if the executor reports them, `seconds.waited` and `seconds.computed`.

    Runs are written in a thread, about a fifth of a second per call; a run of the scheduler waits for it at its end.
    Then wandb's service process is ended, unless the program has a run of its own. `Tracker` explains what happens on
    failures.

    Args:
        project: The project.
        group: The group of the runs, or None.
        entity: The user or team, or None for the default one.
        dir: The folder in which `wandb/` is created; None for the current one.
        mode: `"offline"` only writes files, which `wandb sync` sends later; `"online"` sends at once; `"disabled"`
            writes nothing.

    Raises:
        MissingExtraError: wandb is not installed.
        ValueError: The mode is unknown.
    """

    name = "wandb"

    def __init__(
        self,
        *,
        project: str,
        group: str | None = None,
        entity: str | None = None,
        dir: str | PathLike[str] | None = None,  # noqa: A002 - wandb's name for it
        mode: Literal["online", "offline", "disabled"] = "offline",
    ) -> None:
        super().__init__()
        self._wandb: Any = _extras.load("wandb", needs="wandb", extra="wandb")
        if mode not in ("online", "offline", "disabled"):
            raise ValueError(f"mode={mode!r}: must be 'online', 'offline' or 'disabled'")
        self._options: dict[str, Any] = {
            "project": project,
            "group": group,
            "entity": entity,
            "dir": dir,
            "mode": mode,
            "reinit": "create_new",  # next to a run that the program may have
        }

    def open(self) -> None:
        """Count this plugin as a user of the service."""
        global _open  # noqa: PLW0603 - the service is the process's
        with _lock:
            _open += 1

    def write(self, record: Record) -> None:
        """Create the run of a call."""
        settings = self._wandb.Settings(silent=True, console="off")
        run = self._wandb.init(name=record.task, config=record.parameters, settings=settings, **self._options)
        summary = {"outcome": record.outcome, "exception": record.exception, **_times(record), **record.seconds}
        run.summary.update({name: value for name, value in summary.items() if value is not None} | record.metrics)
        run.finish(exit_code=_EXIT_CODES[record.outcome])

    def close(self) -> None:
        """End the service when no plugin needs it any more."""
        global _open  # noqa: PLW0603 - see above
        with _lock:
            _open -= 1
            if not _open and self._wandb.run is None:
                self._wandb.teardown()


def _times(record: Record) -> dict[str, str]:
    times = {"submitted": record.submitted, "began": record.began, "ended": record.ended}
    return {name: datetime.fromtimestamp(at, UTC).isoformat() for name, at in times.items() if at is not None}
