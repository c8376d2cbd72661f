"""Thread-safe operations: subscribing loses nothing, and a run may end while it is queried."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import SchedulerNotRunningError
from amltk.scheduling import Emitter, Event, Scheduler
from amltk.testing import ManualExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS, TIMES = 4, 300


def in_threads(work: Callable[[], None]) -> None:
    """Run the same function in several threads at once."""
    barrier = threading.Barrier(THREADS)
    errors: list[BaseException] = []

    def begin_together() -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=begin_together) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.usefixtures("hasty_threads")
def test_no_subscription_is_lost() -> None:
    """All subscriptions made concurrently by several threads are there."""
    emitter, event = Emitter(), Event[[], Any]("happened")
    in_threads(lambda: [emitter.register(event, lambda: None) for _ in range(TIMES)] and None)
    assert len(emitter.subscriptions(event)) == THREADS * TIMES
    assert len(emitter.channel(event).calls) == THREADS * TIMES


@pytest.mark.usefixtures("hasty_threads")
def test_no_end_of_a_subscription_is_lost() -> None:
    """No subscription is left when several threads have cancelled all of theirs."""
    emitter, event = Emitter(), Event[[], Any]("happened")

    def come_and_go() -> None:
        for _ in range(TIMES):
            emitter.register(event, lambda: None).end()

    in_threads(come_and_go)
    assert emitter.subscriptions(event) == ()


@pytest.mark.usefixtures("hasty_threads")
def test_events_may_be_made_known_while_they_are_counted() -> None:
    """Neither the counts nor the list of events fail because of a new event."""
    emitter = Emitter()
    numbers = iter(range(THREADS * TIMES))

    def make_known_and_look() -> None:
        for _ in range(TIMES):
            emitter.add_event(Event(f"event-{next(numbers)}"))
            assert not emitter.event_counts
            assert emitter.events

    in_threads(make_known_and_look)
    assert len(emitter.events) == THREADS * TIMES


class Fleeting(Scheduler):
    """A scheduler whose run ends, as if on another thread, after it was queried once."""

    looks: Any = None  # the answers to return
    kept: Any = None

    @property
    def _run(self) -> Any:
        return self.kept if self.looks is None else next(self.looks, None)

    @_run.setter
    def _run(self, run: Any) -> None:
        self.kept = run


ASKED: dict[str, Callable[[Scheduler], object]] = {
    "running": lambda scheduler: scheduler.running(),
    "empty": lambda scheduler: scheduler.empty(),
    "queue": lambda scheduler: scheduler.queue,
    "n_running": lambda scheduler: scheduler.n_running,
    "running_calls": lambda scheduler: scheduler.running_calls(),
    "callback_exceptions": lambda scheduler: scheduler.callback_exceptions,
    "is_elsewhere": lambda scheduler: scheduler.is_elsewhere(),
    "current_run": lambda scheduler: scheduler.current_run,
    "check_running": lambda scheduler: scheduler.check_running("be asked"),
    "call_later": lambda scheduler: scheduler.call_later(0, print),
    "report": lambda scheduler: scheduler.report(ValueError(), "test"),
    "leave": lambda scheduler: scheduler.leave("test"),
    "stop": lambda scheduler: scheduler.stop(),
    "repr": repr,
}


@pytest.mark.parametrize("seen", [0, 1])
@pytest.mark.parametrize("asked", ASKED)
def test_a_run_may_end_while_it_is_asked_for(asked: str, seen: int) -> None:
    """Code that has seen the run proceeds with it; other code learns that there is none, and nothing crashes."""
    scheduler = Fleeting(ManualExecutor())

    @scheduler.on_start
    def ask() -> None:
        run = scheduler.current_run
        scheduler.looks = iter([run] * seen)
        try:
            ASKED[asked](scheduler)
        except (SchedulerNotRunningError, ValueError):
            pass
        finally:
            scheduler.looks = None

    run_in_virtual_time(scheduler.async_run(on_callback_exception={ValueError: "continue"}))
