"""Ctrl-C at any line of what a callback has requested: the run ends, and every call is reported once."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Scheduler
from tests.helpers.gate import Gate, pass_gate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType


class CtrlC:
    """Raise SIGINT at the n-th line of this package that is reached inside the `with` block.

    Attributes:
        at: Where it was raised; None if there are fewer lines.
    """

    def __init__(self, n: int) -> None:
        self._left = n
        self.at: tuple[str, int] | None = None

    def __enter__(self) -> None:
        sys.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "line" and "/amltk/" in frame.f_code.co_filename:
            self._left -= 1
            if not self._left:
                self.at = frame.f_code.co_filename, frame.f_lineno
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return self._trace


ASKED: dict[str, Callable[[Scheduler, Any, Any], object]] = {
    "submit": lambda scheduler, _future, _timer: scheduler.submit(print, end=""),
    "cancel": lambda _scheduler, future, _timer: future.cancel(),
    "call_later": lambda scheduler, _future, _timer: scheduler.call_later(60, print),
    "cancel a timer": lambda _scheduler, _future, timer: timer.cancel(),
    "stop": lambda scheduler, _future, _timer: scheduler.stop(),
    "running": lambda scheduler, _future, _timer: scheduler.running(),
    "submit to the pool": lambda scheduler, _future, _timer: scheduler.executor.submit(print, end=""),
}


def interrupt(
    scheduler: Scheduler, ask: Callable[[Scheduler, Any, Any], object], n: int, gate: Gate, **options: Any
) -> tuple[str, int] | None:
    """Run the scheduler with Ctrl-C at a line of what its callback requests; return where that was."""
    submitted, told = [], []
    ctrl_c = CtrlC(n)
    scheduler.on_future_submitted(submitted.append)
    scheduler.on_future_done(told.append)
    scheduler.on_future_cancelled(told.append)

    @scheduler.on_start
    def begin() -> None:
        scheduler.submit(abs, -1)

    @scheduler.on_future_result
    def go_on(_future: object, result: object) -> None:
        if result is None:
            return  # it has gone through the gate
        future, timer = scheduler.submit(pass_gate, gate.address), scheduler.call_later(60, print)
        with ctrl_c:
            ask(scheduler, future, timer)
        scheduler.stop()
        gate.open()

    try:
        scheduler.run(on_cancelled="continue", **options)
    except KeyboardInterrupt:
        assert ctrl_c.at is not None
    else:
        assert ctrl_c.at is None
    assert len(told) == len(submitted) >= 2, ctrl_c.at
    assert set(told) == set(submitted), ctrl_c.at
    return ctrl_c.at


@pytest.mark.parametrize("asked", ["submit", "cancel", "submit to the pool"])
def test_at_every_line_with_processes(asked: str) -> None:
    """Wherever Ctrl-C hits, no call lacks its ending and the run ends."""
    at_every_line(Scheduler.with_processes, asked, step=3)  # not each: it takes a new pool


@pytest.mark.parametrize("asked", [name for name in ASKED if name != "submit to the pool"])
def test_at_every_line_with_a_journal(asked: str, tmp_path: Path) -> None:
    """The same holds with a journal, which records what callbacks request."""
    at_every_line(Scheduler.with_threads, asked, tmp_path)


def at_every_line(make: Callable[[int], Scheduler], asked: str, folder: Path | None = None, step: int = 1) -> None:
    n, where = 1, None
    while n == 1 or where is not None:
        options = {} if folder is None else {"journal": folder / str(n)}
        with Gate() as gate:
            where = interrupt(make(2), ASKED[asked], n, gate, **options)
        n += step
    assert n > 1 + step, "no line was reached"
