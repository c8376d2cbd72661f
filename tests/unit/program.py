"""A small program over a scheduler whose calls the test completes."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from amltk.scheduling import Scheduler
from amltk.testing import EventRecorder, ManualExecutor, run_in_virtual_time

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from amltk.scheduling import ExitState

OF_THE_TASK = {"submitted", "done", "result", "exception", "cancelled"}

SUBMITTED = ["future-submitted", "work:submitted"]
RESULT = ["future-done", "future-result", "work:done", "work:result"]
EXCEPTION = ["future-done", "future-exception", "work:done", "work:exception"]
CANCELLED = ["future-cancelled", "work:cancelled"]
ENDED = ["finishing", "finished"]
STOPPED = ["stop", "finishing", "finished"]


class ComputeError(Exception):
    """What calls raise in these tests."""


class CallbackError(Exception):
    """What callbacks raise in these tests."""


def work(*args: Any, **kwargs: Any) -> Any:
    """The function of the calls, if it is called at all."""
    return args, kwargs


class Program:
    """A scheduler over a `ManualExecutor`, one task, and a recording of all their events, in order.

    After each run its invariants are checked, whatever the test is about: each submission has exactly one outcome,
    `@start` comes first, `@finished` comes last, and nothing is pending.

    Args:
        terminate: As in `Scheduler`.
        executor: Another executor.
        plugins: The plugins of the task.
    """

    def __init__(
        self, *, terminate: Callable[[Any], Any] | bool = True, executor: Any = None, plugins: Any = ()
    ) -> None:
        self.executor = ManualExecutor() if executor is None else executor
        self.scheduler = Scheduler(self.executor, terminate=terminate)
        self.task = self.scheduler.task(work, plugins=plugins)
        self.recorder = EventRecorder(self.scheduler, self.task)

    @property
    def trace(self) -> list[str]:
        """The names of the delivered events."""
        return self.recorder.names

    def at(self, time: float, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Do something this many seconds after `@start`."""
        self.scheduler.on_start(lambda: self.scheduler.call_later(time, fn, *args, **kwargs), hidden=True)

    def submit(self, n: int = 1) -> None:
        """Submit the task this many times in `@start`."""
        self.scheduler.on_start(lambda: self.task.submit(), repeat=n)

    def run(self, **options: Any) -> ExitState:
        """Run in virtual time, and check the invariants even if it raises."""
        try:
            return run_in_virtual_time(self.scheduler.async_run(**options))
        finally:
            self.check_books()

    def check_books(self) -> None:
        """Assert rule 4.2 of the design on the recording."""
        names = self.trace
        assert names[0] == "start"
        assert names[-1] == "finished"
        assert names.count("start") == names.count("finished") == names.count("finishing")
        counts = Counter(names)
        for prefix in ("future-", "work:"):
            endings = counts[f"{prefix}result"] + counts[f"{prefix}exception"]
            assert counts[f"{prefix}done"] == endings
            assert counts[f"{prefix}submitted"] == endings + counts[f"{prefix}cancelled"]
        for history in self.histories().values():
            assert_one_ending(history)
        assert self.scheduler.queue == []
        assert self.scheduler.empty()
        assert self.task.queue == []
        assert not self.scheduler.running()

    @property
    def own(self) -> list[str]:
        """The names of the task's events, in order, without the task's name."""
        return [record.event.name for record in self.recorder.records if record.source is self.task]

    def histories(self) -> dict[asyncio.Future[Any], list[str]]:
        """The events of each future, in order."""
        found: dict[asyncio.Future[Any], list[str]] = defaultdict(list)
        for record in self.recorder.records:
            if record.name.startswith("future-") or record.event.name in OF_THE_TASK:
                found[record.args[0]].append(record.name)
        return found


def assert_one_ending(history: list[str]) -> None:
    """Assert that this is everything that may happen to one future: acceptance, then exactly one outcome."""
    with_task = [SUBMITTED + ending for ending in (RESULT, EXCEPTION, CANCELLED)]
    without = [[name for name in names if name.startswith("future-")] for names in with_task]
    assert history in with_task + without
