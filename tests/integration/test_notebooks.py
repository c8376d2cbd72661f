"""Runs in real Jupyter kernels, one for each patch that notebooks use, and in IPython in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers.gate import Gate
from tests.helpers.kernel import Kernel
from tests.helpers.patches import PATCHES, needs, needs_patch
from tests.helpers.script import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

DEFINITIONS = """
import asyncio
from amltk.scheduling import Scheduler

def fn(x):
    return x + 1

def make(fn, *args):
    scheduler = Scheduler.with_processes(1)
    scheduler.on_start(lambda: scheduler.submit(fn, *args))
    scheduler.on_future_result(lambda _, result: print("result", result))
    scheduler.on_finished(lambda: print("finished"))
    return scheduler
"""

INTERRUPTIONS = {
    "run": "make_waiting().run(display=False)",
    "run, in a cell that also awaits": "await asyncio.sleep(0)\nmake_waiting().run(display=False)",
    "run, in a callback": "make_waiting(in_callback=True).run(display=False)",
    "async_run": "await make_waiting().async_run(display=False)",
    "async_run, in a task of its own": "await asyncio.create_task(make_waiting().async_run(display=False))",
}


@pytest.fixture(scope="module", params=PATCHES)
def kernel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel, patched or not, in which the definitions were executed."""
    needs("ipykernel", "jupyter_client")
    needs_patch(request.param)
    with Kernel(tmp_path_factory.mktemp("jupyter")) as kernel:
        assert kernel.execute(PATCHES[request.param] + DEFINITIONS).error is None
        yield kernel


def test_runs_in_cells(kernel: Kernel) -> None:
    """`run` and `async_run` work, one after the other and repeatedly, and print into their cell's output."""
    one = "result {}\nfinished\n"
    cell = kernel.execute("""
        first = make(fn, 1)
        states = [first.run(display=False), first.run(display=False)]
        states.append(await first.async_run(display=False))
        states.append(await make(fn, 2).async_run(display=False))
        states.append(make(fn, 3).run(display=False))
        [state.code.name for state in states]
    """)
    assert cell.error is None
    assert cell.printed == "".join(one.format(n) for n in (2, 2, 2, 3, 4))
    assert cell.result == str(["EXHAUSTED"] * 5)


def test_the_loop_of_the_kernel_goes_on(kernel: Kernel) -> None:
    """After a run, tasks and timeouts work in later cells, and so do tasks started before it."""
    kernel.execute("beside = asyncio.create_task(asyncio.sleep(0, 'beside'))")
    kernel.execute("make(fn, 1).run(display=False)")
    cell = kernel.execute("""
        assert asyncio.current_task() is not None
        async with asyncio.timeout(60):
            print(await beside, await asyncio.to_thread(fn, 1))
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(60)
        except TimeoutError:
            print("in time")
    """)
    assert (cell.error, cell.printed) == (None, "beside 2\nin time\n")


def test_two_runs_at_once(kernel: Kernel) -> None:
    """Several schedulers share the kernel's loop."""
    cell = kernel.execute("""
        runs = [make(fn, n).async_run(display=False) for n in (1, 1)]
        [state.code.name for state in await asyncio.gather(*runs)]
    """)
    assert (cell.error, cell.result) == (None, "['EXHAUSTED', 'EXHAUSTED']")
    assert sorted(cell.printed.splitlines()) == ["finished", "finished", "result 2", "result 2"]


def test_what_cells_define_runs_in_processes(kernel: Kernel) -> None:
    """Functions, classes, closures and exceptions of cells travel, and instances keep their class."""
    kernel.execute("""
        FACTOR = 3

        class Point:
            def __init__(self, x):
                self.x = x

        class Failed(Exception):
            pass

        def grow(point):
            assert type(point) is Point
            return Point(FACTOR * point.x)

        def fail():
            raise Failed("on purpose")
    """)
    cell = kernel.execute("""
        scheduler = Scheduler.with_processes(2)

        @scheduler.on_start
        async def check():
            back = await scheduler.submit(grow, Point(2))
            print(type(back) is Point, back.x, await scheduler.submit(lambda: FACTOR))
            try:
                await scheduler.submit(fail)
            except Failed as error:
                print(error)

        scheduler.run(display=False, on_exception="continue").code.name
    """)
    assert (cell.error, cell.printed, cell.result) == (None, "True 6 3\non purpose\n", "'EXHAUSTED'")


def test_what_a_later_cell_defines_again_is_computed(kernel: Kernel) -> None:
    """The new definition counts from the next submission, even with the workers of a run that spans several cells."""
    kernel.execute("""
        def helper():
            return "old helper"

        def compute():
            return helper()

        again = make(compute)
        going_on = Scheduler.with_processes(1)
        life = asyncio.create_task(going_on.async_run(end_on_empty=False, display=False))
    """)
    both = "again.run(display=False)\nprint(await going_on.submit(compute))"
    assert kernel.execute(both).printed == "result old helper\nfinished\nold helper\n"
    kernel.execute("def helper(): return 'new helper'")
    assert kernel.execute(both).printed == "result new helper\nfinished\nnew helper\n"
    kernel.execute("def compute(): return 'new, with ' + helper()\nagain = make(compute)")
    assert kernel.execute(both).printed == "result new, with new helper\nfinished\nnew, with new helper\n"
    assert kernel.execute("going_on.stop(); (await life).code.name").result == "'STOPPED'"


def test_tracebacks_of_workers_show_lines_of_cells(kernel: Kernel) -> None:
    """A cell is in no file, so its lines travel with its code; names that are looked up are found."""
    kernel.execute("""
        LIMIT = 4

        def fail_in_a_cell():
            raise ValueError("on purpose")  # a line of a cell

        def look_up():
            import __main__
            return getattr(__main__, "LI" + "MIT"), eval("LIMIT")
    """)
    cell = kernel.execute("""
        from amltk.scheduling.executors import ProcessPool
        with ProcessPool(1) as pool:
            error = pool.submit(fail_in_a_cell).exception()
            found = pool.submit(look_up).result()
        "# a line of a cell" in str(error.__cause__), found
    """)
    assert (cell.error, cell.result) == (None, "(True, (4, 4))")


@pytest.mark.parametrize("way", INTERRUPTIONS)
def test_an_interrupted_kernel(kernel: Kernel, way: str) -> None:
    """ "Interrupt kernel" ends the run in order, kills its calls and surfaces in the cell, with no after-effects."""
    with Gate() as gate:
        kernel.execute(f"""
            import psutil
            from tests.helpers.gate import pass_gate

            def children():
                return {{child.pid for child in psutil.Process().children(recursive=True)}}

            def wait():
                pass_gate({gate.address!r})

            def make_waiting(in_callback=False):
                scheduler = Scheduler.with_processes(2)
                for event in scheduler.emitter.events:
                    scheduler.emitter.register(event, lambda *_, event=event: print(event.name))
                scheduler.on_start(wait if in_callback else lambda: scheduler.submit(wait))
                return scheduler

            before = children()
        """)
        request = kernel.begin(INTERRUPTIONS[way])
        gate.wait_begun()
        kernel.interrupt()
        cell = kernel.end(request)
        gate.wait_gone()
    call = [] if "callback" in way else ["future-cancelled"]
    assert cell.printed.split() == [
        *("start", *(["future-submitted"] if call else []), "stop", "finishing"),
        *(*call, "finished"),
    ]
    # ipykernel cancels whatever a cell awaits.
    assert cell.error == ("CancelledError" if way.startswith("async_run") else "KeyboardInterrupt")
    assert kernel.execute("children() - before").result == "set()"
    after = kernel.execute("make(fn, 1).run(display=False).code.name")
    assert (after.error, after.printed, after.result) == (None, "result 2\nfinished\n", "'EXHAUSTED'")


@pytest.mark.parametrize("run", ["scheduler.run()", "await scheduler.async_run()"])
def test_the_display_is_one_output(kernel: Kernel, run: str) -> None:
    """By default a run shows itself in one area of its cell, which it updates; it creates no other area."""
    cell = kernel.execute(f"scheduler = make(fn, 1)\n{run}")
    assert cell.error is None
    assert cell.printed == "result 2\nfinished\n"
    (area,) = cell.areas
    assert area
    assert [shown_in for shown_in, _ in cell.shown] == [area] * len(cell.shown)
    assert len(cell.shown) > 1
    assert ["finished" in content["text/html"] for _, content in cell.shown] == [*[False] * (len(cell.shown) - 1), True]
    told = cell.shown[-1][1]["text/plain"]  # where no HTML is shown
    assert told.startswith("amltk: finished, ")
    assert ", 1 done, 0 failed, " in told


def test_the_display_can_be_switched_off(kernel: Kernel) -> None:
    """With `display=False` there is none."""
    assert kernel.execute("make(fn, 1).run(display=False)").areas == []


def test_a_cell_that_is_executed_again_and_again(kernel: Kernel) -> None:
    """Making the scheduler again leaves no processes, threads, descriptors, handlers or old schedulers behind."""
    kernel.execute("import gc, weakref; from tests import leaks; old = weakref.WeakSet(); before = None")
    cell = "scheduler = make(fn, 1); old.add(scheduler); scheduler.run(); None"
    kernel.execute(cell)
    kernel.execute("before = leaks.Holdings.now()")
    for _ in range(5):
        assert kernel.execute(cell).printed == "result 2\nfinished\n"
    assert kernel.execute("gc.collect(); (leaks.since(before), len(old))").result == "([], 1)"


def test_a_kernel_that_is_restarted_during_a_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No worker outlives its kernel, which is killed while it is busy."""
    needs("ipykernel", "jupyter_client")
    with Kernel(tmp_path_factory.mktemp("jupyter")) as kernel, Gate() as gate:
        kernel.execute(DEFINITIONS + "from tests.helpers.gate import pass_gate")
        kernel.begin(f"make(pass_gate, {gate.address!r}).run()")
        gate.wait_begun()
        kernel.restart()
        gate.wait_gone()
        assert kernel.execute(DEFINITIONS + "make(fn, 1).run(display=False).code.name").result == "'EXHAUSTED'"


def test_ipython_in_a_terminal(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In IPython's prompt the same cells work, and by default nothing is displayed."""
    needs("IPython")
    ended = run_script(
        f"""
        from IPython.terminal.interactiveshell import TerminalInteractiveShell
        shell = TerminalInteractiveShell.instance(simple_prompt=True, colors="nocolor")
        for cell in (
            {DEFINITIONS!r},
            "make(fn, 1).run().code.name",
            "(await make(fn, 2).async_run()).code.name",
            "def fn(x): return -x",
            "await asyncio.sleep(0); make(fn, 3).run().code.name",
        ):
            shell.run_cell(cell, store_history=False).raise_error()
        """,
        env={"IPYTHONDIR": str(tmp_path_factory.mktemp("ipython"))},
    )
    assert (ended.code, ended.errors) == (0, "")
    values = [line.partition(": ")[2] or line for line in ended.lines if line]
    one = ["result {}", "finished", "'EXHAUSTED'"]
    assert values == [line.format(n) for n in (2, 3, -3) for line in one]


def test_loops_over_results_in_cells(kernel: Kernel) -> None:
    """A plain loop, `async for` and `await` work in a cell, in a block that keeps the workers."""
    cell = kernel.execute("""
        import os
        with Scheduler.with_processes(1) as scheduler:
            task = scheduler.task(fn)
            for call in task.map([1, 2]).results(ordered=True, display=False):
                print(call.label, call.result())
            async for call in task.map([3]).results(display=False):
                print(call.label, call.result())
            print([call.result() for call in await task.map([4, 5]).results(ordered=True, display=False)])
        await asyncio.sleep(0)
    """)
    assert cell.error is None
    assert cell.printed == "fn(1) 2\nfn(2) 3\nfn(3) 4\n[5, 6]\n"
