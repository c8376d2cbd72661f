"""Unusual loops, interpreters and executors."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from amltk.scheduling import ExitState, Limits, Scheduler
from amltk.scheduling._loop.signals import may_be_torn
from amltk.scheduling.executors.registry import kind_of

# --------------------------------------------------------------------------------------------------------------- loops


def story(*, eager: bool) -> list[str]:
    """What plain callbacks and coroutines record of a run, in order."""
    notes: list[str] = []

    async def main() -> None:
        if eager:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        scheduler = Scheduler.with_sequential()
        task = scheduler.task(int)

        @scheduler.on_start
        async def first() -> None:
            notes.append("first begins")
            task.submit(1)
            await asyncio.sleep(0)
            notes.append("first ends")

        @scheduler.on_start
        def second() -> None:
            notes.append("second")
            task.submit(2)

        @task.on_submitted
        def submitted(_: Any, n: int) -> None:
            notes.append(f"{n} submitted")

        @task.on_result
        async def follow(future: Any, n: int) -> None:
            notes.append(f"{n} awaited")
            await future
            notes.append(f"{n} over")

        @task.on_result
        def ended(_: Any, n: int) -> None:
            notes.append(f"{n} ended")

        @scheduler.on_finished
        async def last() -> None:
            notes.append("finished")

        await scheduler.async_run(display=False)

    asyncio.run(main())
    return notes


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in CPython 3.12")
def test_eager_tasks_change_no_order() -> None:
    """Eager tasks change no order: a coroutine starts after the delivery that it belongs to."""
    assert story(eager=True) == story(eager=False)


def test_a_coroutine_begins_after_the_delivery() -> None:
    """A coroutine starts after the plain callbacks of the same event."""
    assert story(eager=False)[:3] == ["second", "2 submitted", "first begins"]


@pytest.mark.parametrize("whose", ["asyncio", "uvloop.loop", "uvicorn.server"])
def test_handlers_that_only_take_note_tear_nothing(whose: str) -> None:
    """The loop's thread may handle a pool's I/O beside them, but not beside users' handlers."""

    def handle(*_: Any) -> None:
        pass

    async def main() -> tuple[bool, bool]:
        before = signal.getsignal(signal.SIGUSR1)
        try:
            if whose == "asyncio":
                asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, handle)
            else:
                handle.__module__ = whose
                signal.signal(signal.SIGUSR1, handle)
            beside = may_be_torn()
            signal.signal(signal.SIGUSR1, lambda *_: None)
            return beside, may_be_torn()
        finally:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
            signal.signal(signal.SIGUSR1, before)

    assert asyncio.run(main()) == (False, True)


# -------------------------------------------------------------------------------------------------------- interpreters


@pytest.fixture
def another_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the standard library rejects outside the main interpreter, from CPython 3.12 on."""

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("signal only works in main thread of the main interpreter")

    make = threading.Thread.__init__

    def make_no_daemon(thread: threading.Thread, *args: Any, daemon: bool | None = None, **options: Any) -> None:
        if daemon:
            raise RuntimeError("daemon threads are disabled in this (sub)interpreter")
        make(thread, *args, daemon=daemon, **options)

    monkeypatch.setattr(signal, "signal", refuse)
    monkeypatch.setattr(signal, "set_wakeup_fd", refuse)
    monkeypatch.setattr(threading.Thread, "__init__", make_no_daemon)


@pytest.mark.usefixtures("another_interpreter")
@pytest.mark.parametrize("wait", [True, False])
def test_a_run_where_signals_cannot_be_handled(wait: bool) -> None:
    """Neither signal handlers nor daemon threads are needed for a run or for shutting down its executor."""
    scheduler = Scheduler.with_threads(1)
    scheduler.on_start(lambda: scheduler.submit(int) and None)
    results: list[int] = []
    scheduler.on_future_result(lambda _, result: results.append(result))
    assert scheduler.run(display=False, wait=wait).code is ExitState.Code.EXHAUSTED
    assert results == [0]
    assert not may_be_torn()


IN_ANOTHER = """
import sys
sys.path[:] = {path!r}
from amltk.scheduling import Scheduler

for scheduler in (Scheduler.with_sequential(), Scheduler.with_threads(1)):
    scheduler.on_start(lambda: scheduler.submit(int) and None)
    assert scheduler.run(display=False).code.name == "EXHAUSTED"
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="the module for interpreters is new in CPython 3.14")
def test_a_run_in_another_interpreter() -> None:
    """A run works in a real subinterpreter."""
    from concurrent import interpreters  # type: ignore[attr-defined]

    other = interpreters.create()
    try:
        other.exec(IN_ANOTHER.format(path=sys.path))
    finally:
        other.close()


# ----------------------------------------------------------------------------------------------------------- executors

Interpreters = type("InterpreterPoolExecutor", (ThreadPoolExecutor,), {"__module__": "concurrent.futures.interpreter"})
"""Like the standard library's, from CPython 3.14 on, a subclass of its thread pool."""


def test_a_pool_of_interpreters_is_no_pool_of_threads() -> None:
    """Calls of an interpreter pool are pickled, and cannot be cancelled once they run."""
    with Interpreters(1) as pool:
        kind = kind_of(pool)
        assert kind.name == "interpreter-pool-executor"
        assert not kind.capabilities.shares_objects
        assert not kind.capabilities.closures
        assert not kind.capabilities.cancels_running
        with pytest.raises(ValueError, match="cannot end a call"):
            Scheduler(pool, terminate=False).task(int, plugins=Limits(wall_time=1))


@pytest.mark.skipif(sys.version_info < (3, 14), reason="it is new in CPython 3.14")
def test_a_run_on_a_pool_of_interpreters() -> None:
    """Results and exceptions come back from the other interpreters."""
    from concurrent.futures import InterpreterPoolExecutor  # type: ignore[attr-defined]

    scheduler = Scheduler(InterpreterPoolExecutor(1))
    assert scheduler.executor_kind.name == "interpreter-pool-executor"
    task = scheduler.task(int)
    outcomes: list[Any] = []
    task.on_result(lambda _, result: outcomes.append(result))
    task.on_exception(lambda _, error: outcomes.append(type(error)))
    scheduler.on_start(lambda: [task.submit(text) for text in ("7", "seven")] and None)
    assert scheduler.run(display=False, on_exception="continue").code is ExitState.Code.EXHAUSTED
    assert outcomes == [7, ValueError]
