"""Runs work wherever they are called: scripts, coroutines, callbacks of other loops, patched loops."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import ExitState, Scheduler
from amltk.testing import EventRecorder
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.patches import PATCHES, needs, needs_patch
from tests.helpers.script import run_script

if TYPE_CHECKING:
    from pathlib import Path

Code = ExitState.Code
EXHAUSTED = ExitState(Code.EXHAUSTED)


def double(x: int) -> int:
    return 2 * x


def scheduler_of_one(x: int, results: list[Any]) -> Scheduler:
    """A scheduler on one process that computes one call."""
    scheduler = Scheduler.with_processes(1)
    scheduler.on_start(lambda: scheduler.submit(double, x))
    scheduler.on_future_result(lambda _, result: results.append(result))
    return scheduler


# -------------------------------------------------------------------------------------------- inside of a running loop


def test_a_run_inside_a_coroutine() -> None:
    """`run` needs no patch inside a running loop, which then continues undisturbed."""
    results: list[Any] = []

    async def main() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        beside = asyncio.create_task(asyncio.sleep(0, "beside"))
        assert scheduler_of_one(1, results).run() == EXHAUSTED
        assert asyncio.current_task() is task
        assert asyncio.get_running_loop() is loop
        async with asyncio.timeout(GUARD):
            assert await beside == "beside"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(GUARD)
        async with asyncio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(0, "child"))
        assert child.result() == "child"
        assert await asyncio.to_thread(double, 4) == 8
        assert scheduler_of_one(2, results).run() == EXHAUSTED

    asyncio.run(main())
    assert results == [2, 4]


def test_a_run_inside_a_plain_callback_of_a_loop() -> None:
    """The same holds if the loop calls a plain function, so that there is no current task."""
    results: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def callback() -> None:
            assert asyncio.current_task() is None
            done.set_result(scheduler_of_one(1, results).run())
            assert asyncio.current_task() is None
            assert asyncio.get_running_loop() is loop

        loop.call_soon(callback)
        assert await done == EXHAUSTED

    asyncio.run(main())
    assert results == [2]


def test_a_run_that_raises_inside_a_coroutine() -> None:
    """A run that raises leaves the surrounding loop intact as well."""

    async def main() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        for error in (ValueError, KeyboardInterrupt):
            scheduler = Scheduler.with_sequential()

            @scheduler.on_start
            def fail(error: type[BaseException] = error) -> None:
                raise error

            with pytest.raises(error):
                scheduler.run()
            assert asyncio.current_task() is task
            assert asyncio.get_running_loop() is loop
        async with asyncio.timeout(GUARD):
            await asyncio.sleep(0)

    asyncio.run(main())


def test_runs_inside_runs() -> None:
    """A callback may run a scheduler whose callback runs another one, inside a coroutine."""
    order: list[str] = []

    def nested(depth: int) -> ExitState:
        scheduler = Scheduler.with_sequential()
        scheduler.on_start(lambda: order.append(f"start {depth}"))
        if depth:
            scheduler.on_start(lambda: nested(depth - 1))
        scheduler.on_finished(lambda: order.append(f"finished {depth}"))
        return scheduler.run()

    async def main() -> ExitState:
        return nested(2)

    assert asyncio.run(main()) == EXHAUSTED
    assert order == ["start 2", "start 1", "start 0", "finished 0", "finished 1", "finished 2"]


def test_the_event_loop_of_the_thread_is_left_alone() -> None:
    """A loop that the program has set for its thread is still set after a run, and is not closed."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        scheduler_of_one(1, []).run()
        assert asyncio.get_event_loop() is loop
        assert loop.run_until_complete(asyncio.sleep(0, "works")) == "works"
        results: list[Any] = []
        assert loop.run_until_complete(scheduler_of_one(1, results).async_run()) == EXHAUSTED
        assert results == [2]
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@pytest.mark.parametrize("patch", PATCHES)
def test_a_run_under_a_patch_that_notebooks_use(patch: str) -> None:
    """Whether or not asyncio is patched, runs work in the script, in a coroutine and in a callback, with processes."""
    needs_patch(patch)
    ended = run_script(
        f"""
        import asyncio
        from amltk.scheduling import Scheduler
        {PATCHES[patch]}

        def double(x):
            return 2 * x

        def run(x):
            scheduler = Scheduler.with_processes(1)
            scheduler.on_start(lambda: scheduler.submit(double, x))
            scheduler.on_future_result(lambda _, result: print(result))
            return scheduler.run().code.name

        async def main():
            task, loop = asyncio.current_task(), asyncio.get_running_loop()
            print(run(2))
            assert asyncio.current_task() is task
            assert asyncio.get_running_loop() is loop
            async with asyncio.timeout(180):
                await asyncio.sleep(0.001)
            try:
                async with asyncio.timeout(0):
                    await asyncio.sleep(30)
            except TimeoutError:
                print("timeout works")
            done = loop.create_future()
            loop.call_soon(lambda: done.set_result(run(3)))
            print(await done)
            scheduler = Scheduler.with_processes(1)
            scheduler.on_start(lambda: scheduler.submit(double, 4))
            scheduler.on_future_result(lambda _, result: print(result))
            print((await scheduler.async_run()).code.name)

        print(run(1))
        asyncio.run(main())
        print(run(5))
        """,
        "-Wdefault",
    )
    assert (ended.code, ended.errors) == (0, "")
    assert ended.lines == [
        *("2", "EXHAUSTED", "4", "EXHAUSTED", "timeout works"),
        *("6", "EXHAUSTED", "8", "EXHAUSTED", "10", "EXHAUSTED"),
    ]


def test_a_run_on_uvloop() -> None:
    """The same holds on a loop that is not asyncio's own, signals included."""
    needs("uvloop")
    ended = run_script(
        """
        import asyncio, signal, time, uvloop
        from amltk.scheduling import Scheduler

        def double(x):
            return 2 * x

        def make(x):
            scheduler = Scheduler.with_processes(1)
            scheduler.on_start(lambda: scheduler.submit(double, x))
            scheduler.on_future_result(lambda _, result: print(result))
            return scheduler

        async def main():
            task = asyncio.current_task()
            print(type(asyncio.get_running_loop()).__module__)
            print(make(2).run().code.name)
            assert asyncio.current_task() is task
            async with asyncio.timeout(180):
                print((await make(3).async_run()).code.name)
            scheduler = make(4)
            scheduler.on_start(lambda: scheduler.call_later(0, signal.raise_signal, signal.SIGINT))
            try:
                scheduler.run(end_on_empty=False)
            except KeyboardInterrupt:
                print("interrupted")

        uvloop.run(main())
        """
    )
    assert ended.code == 0, ended.errors
    assert ended.lines[:5] == ["uvloop", "4", "EXHAUSTED", "6", "EXHAUSTED"]
    assert ended.lines[-1] == "interrupted"


# -------------------------------------------------------------------------------------------------- as a good coroutine


def test_async_run_ends_in_order_when_its_time_is_up(tmp_path: Path) -> None:
    """When `asyncio.timeout` cancels `async_run`, the run ends in order and the timeout is raised."""
    with Gate() as gate:
        scheduler = Scheduler.with_processes(1)
        recorder = EventRecorder(scheduler)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            with pytest.raises(TimeoutError):  # noqa: PT012
                async with asyncio.timeout(None) as timeout:
                    gate.when_begun(1, lambda: loop.call_soon_threadsafe(timeout.reschedule, 0))
                    scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
                    await scheduler.async_run()

        asyncio.run(main())
        gate.wait_gone()
    assert recorder.names == [
        *("start", "future-submitted", "stop", "finishing"),
        *("future-cancelled", "finished"),
    ]


def test_async_run_in_a_task_group() -> None:
    """When a sibling in a task group fails, the run ends in order before the group does."""
    with Gate() as gate:
        scheduler = Scheduler.with_processes(1)
        recorder = EventRecorder(scheduler)

        async def main() -> None:
            begun = asyncio.Event()
            loop = asyncio.get_running_loop()
            gate.when_begun(1, lambda: loop.call_soon_threadsafe(begun.set))
            scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))

            async def sibling() -> None:
                await begun.wait()
                raise LookupError("sibling")

            with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
                async with asyncio.TaskGroup() as group:
                    group.create_task(scheduler.async_run())
                    group.create_task(sibling())
            assert repr(caught.value.exceptions) == "(LookupError('sibling'),)"
            assert recorder.names[-1] == "finished"

        asyncio.run(main())
        gate.wait_gone()


def test_callbacks_see_the_context_of_the_caller() -> None:
    """Callbacks of every event see context variables that were set before the run, as in any coroutine."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str | None] = []

    def subscribed(scheduler: Scheduler) -> Scheduler:
        for event in scheduler.emitter.events:
            scheduler.emitter.register(event, lambda *_: seen.append(variable.get(None)))
        scheduler.on_start(lambda: scheduler.call_later(0, lambda: seen.append(variable.get(None))))
        return scheduler

    variable.set("by run")
    subscribed(scheduler_of_one(1, [])).run()
    assert set(seen) == {"by run"}
    seen.clear()

    async def main() -> None:
        variable.set("by async_run")
        await subscribed(scheduler_of_one(1, [])).async_run()

    asyncio.run(main())
    assert set(seen) == {"by async_run"}


def test_debug_mode() -> None:
    """`asyncio_debug_mode=True` enables debug mode on the run's loop; otherwise Python's default applies."""
    modes: list[bool] = []
    for mode in (True, False):
        scheduler = scheduler_of_one(1, [])
        scheduler.on_start(lambda: modes.append(asyncio.get_running_loop().get_debug()))
        assert scheduler.run(asyncio_debug_mode=mode) == EXHAUSTED
    assert modes == [True, sys.flags.dev_mode]


def test_debug_mode_finds_nothing_to_complain_about() -> None:
    """A run in debug mode, with processes, `async def` callbacks, timers and a cancellation, causes no warnings."""
    ended = run_script(
        """
        import asyncio, logging
        from amltk.scheduling import Scheduler
        logging.basicConfig(level=logging.INFO, format="%(name)s")
        logging.getLogger("amltk").setLevel(logging.WARNING)
        scheduler = Scheduler.with_processes(2)

        @scheduler.on_start
        async def launch():
            scheduler.call_later(0, lambda: None)
            futures = [scheduler.submit(abs, n) for n in range(20)]
            futures[-1].cancel()
            print(sum(await asyncio.gather(*futures[:-1])))

        print(scheduler.run(asyncio_debug_mode=True, on_cancelled="continue").code.name)
        """,
        *("-X", "dev"),
    )
    assert ended.code == 0
    assert ended.lines == ["171", "EXHAUSTED"]
    assert set(ended.errors.splitlines()) <= {"asyncio"}  # it names its selector


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in CPython 3.12")
def test_a_loop_with_eager_tasks() -> None:
    """Under `eager_task_factory`, where coroutines begin at once, everything stays in order."""
    results: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        scheduler = scheduler_of_one(1, results)
        recorder = EventRecorder(scheduler)

        @scheduler.on_future_result
        async def more(_: Any, result: int) -> None:
            if result < 10:
                results.append(await scheduler.submit(double, result))

        assert await scheduler.async_run() == EXHAUSTED
        one = ["future-submitted", "future-done", "future-result"]
        assert [name for name in recorder.names if name in one] == one * 4

    asyncio.run(main())
    assert sorted(results) == [2, 4, 4, 8, 8, 16, 16]


def test_a_loop_in_a_thread_beside_the_main_one() -> None:
    """A program may keep a loop in a thread of its own and run schedulers there."""
    results: list[Any] = []
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        future = asyncio.run_coroutine_threadsafe(scheduler_of_one(1, results).async_run(), loop)
        assert future.result(GUARD) == EXHAUSTED
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(GUARD)
        loop.close()
    assert results == [2]
