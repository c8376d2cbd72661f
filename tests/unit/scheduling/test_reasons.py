"""The reason why a run ended, in the words of the code that ended it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from amltk.display.progress import Observer
from amltk.exceptions import SchedulerNotRunningError
from amltk.scheduling import ExitState, Scheduler
from amltk.testing import ManualExecutor, run_in_virtual_time

STOPS: list[Callable[[Scheduler], object]] = [
    lambda scheduler: scheduler.stop("good enough"),
    lambda scheduler: scheduler.stop(stop_msg="good enough"),
    lambda scheduler: scheduler.call_later(1, scheduler.stop, "good enough"),
    lambda scheduler: scheduler.stop(object(), "a result", stop_msg="good enough"),
]


def run(scheduler: Scheduler, **options: Any) -> ExitState:
    state: ExitState = run_in_virtual_time(scheduler.async_run(end_on_empty=False, **options))
    return state


@pytest.mark.parametrize("stop", STOPS)
def test_the_reason_is_kept(stop: Callable[[Scheduler], object], caplog: pytest.LogCaptureFixture) -> None:
    """The state, its repr, `@stop`, the log and the display show it, however it was passed."""
    scheduler = Scheduler(ManualExecutor())
    messages: list[str] = []
    observer = Observer(scheduler, None, lambda: 0.0)
    observer.open()
    scheduler.on_start(lambda: stop(scheduler))
    scheduler.on_stop(lambda message, exception: messages.append(message))
    with caplog.at_level(logging.INFO, "amltk"):
        state = run(scheduler)
    assert state == ExitState(ExitState.Code.STOPPED)
    assert state.reason == "good enough"
    assert "reason='good enough'" in repr(state)
    assert messages == ["good enough"]
    assert "run is ending: good enough" in caplog.messages
    assert observer.observe().state == "finished: stopped (good enough)"
    observer.close()


@pytest.mark.parametrize(
    "args", [(), (object(),), (object(), "a result"), (object(), "a text", "more"), (None,), (b"",)]
)
def test_what_a_callback_is_called_with_is_no_reason(args: tuple[Any, ...]) -> None:
    """`stop` as a callback of any event has no reason; `@stop` says what happened."""
    scheduler = Scheduler(ManualExecutor())
    messages: list[str] = []
    scheduler.on_start(lambda: scheduler.stop(*args, lr=0.1))
    scheduler.on_stop(lambda message, exception: messages.append(message))
    state = run(scheduler)
    assert state.reason == ""
    assert "reason" not in repr(state)
    assert messages == ["stop() was called"]


def test_who_submits_too_late_is_told_the_reason() -> None:
    """The error of a submission after the end contains the reason."""
    scheduler = Scheduler(ManualExecutor())
    scheduler.on_start(lambda: scheduler.stop("good enough"))
    scheduler.on_finishing(lambda: scheduler.submit(print))
    with pytest.raises(SchedulerNotRunningError, match="STOPPED: good enough"):
        run(scheduler)


def test_the_first_reason_counts() -> None:
    """The first reason counts; an exception has its own."""
    scheduler = Scheduler(ManualExecutor())
    scheduler.on_start(lambda: [scheduler.stop("first"), scheduler.stop("second")])
    assert run(scheduler).reason == "first"
    error = ValueError("broken")
    other = Scheduler(ManualExecutor())
    other.on_start(lambda: other.stop("it broke", exception=error))
    state = run(other, on_exception="end")
    assert (state.exception, state.reason) == (error, "it broke")
    assert run(Scheduler(ManualExecutor()), timeout=1).reason == ""


def test_a_reason_of_many_lines_is_shown_on_one() -> None:
    """The display shows it on one line, without terminal control characters."""
    scheduler = Scheduler(ManualExecutor())
    observer = Observer(scheduler, None, lambda: 0.0)
    observer.open()
    scheduler.on_start(lambda: scheduler.stop("\x1b[2Jfirst\nsecond"))
    run(scheduler)
    assert observer.observe().state == "finished: stopped (\\x1b[2Jfirst)"
    observer.close()
