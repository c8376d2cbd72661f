"""Loops over the results of maps in real processes and programs: how they end, interrupted or not, and what is left."""

from __future__ import annotations

import itertools
import signal
from typing import Any

import pytest

from amltk.scheduling import Scheduler
from tests.helpers.gate import Gate, pass_gate
from tests.helpers.script import Script, run_script

METHODS = ["forkserver", "spawn", "fork"]


def double(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize("method", METHODS)
def test_processes(method: Any) -> None:
    """Calls arrive as they end, or in the order of their items, and leaving a loop early leaves nothing behind."""
    scheduler = Scheduler.with_processes(2, method)
    task = scheduler.task(double)
    assert sorted(call.result() for call in task.map(range(50)).results()) == list(range(0, 100, 2))
    assert [call.args[0] for call in task.map(range(50)).results(ordered=True)] == list(range(50))
    for _ in task.map(itertools.count()).results():
        break
    assert not scheduler.has_run()


def test_leaving_a_loop_does_not_wait_for_what_runs() -> None:
    """A call that would never return is ended with its worker."""
    with Gate() as gate:
        scheduler = Scheduler.with_processes(2)
        task = scheduler.task(pass_gate)
        other = scheduler.task(double)
        scheduler.on_start(lambda: task.submit(gate.address))
        for _ in other.map(range(3), in_flight=1).results():
            gate.wait_begun()
            break
        gate.wait_gone()


def test_workers_go_on_while_the_body_is_at_work() -> None:
    """All calls in flight are computed while the loop body blocks the run's loop."""
    with Gate() as gate:
        scheduler = Scheduler.with_processes(1)
        task = scheduler.task(pass_gate)
        gate.open()
        for _ in task.map([gate.address] * 20, in_flight=20).results():
            gate.wait_begun(20)


PROGRAM = """
    import itertools, os, time
    from amltk.scheduling import Scheduler

    def compute(n):
        if n == 2 and {waits}:
            print("waits", flush=True)
            time.sleep(600)
        return n

    scheduler = Scheduler.with_processes(2)
    task = scheduler.task(compute)
    scheduler.on_stop(lambda message, error: print("stop:", message))
    scheduler.on_finished(lambda: print("finished"))
    try:
        for call in task.map(range(10), in_flight=2).results():
            print("got", call.result())
            if call.result() == 9:
                scheduler.call_later(0, print, "in the wait")
            if {in_body}:
                print("waits", flush=True)
                time.sleep(600)
    except KeyboardInterrupt:
        print("interrupted", scheduler.has_run())
        raise
"""


@pytest.mark.parametrize("where", ["call", "body"])
def test_ctrl_c(where: str) -> None:
    """Ctrl-C ends the run in order and surfaces in the loop, whether in the wait for a call or in the body."""
    with Script(PROGRAM.format(waits=where == "call", in_body=where == "body")) as script:
        script.wait_for("waits")
        if where == "call":
            script.wait_for("in the wait")
        script.send_to_all(signal.SIGINT)
        code, lines, _ = script.end()
    assert code == -signal.SIGINT
    assert lines[-2:] == ["finished", "interrupted False"]


def test_sigterm_in_the_wait() -> None:
    """SIGTERM ends the run in order, and then the program."""
    with Script(PROGRAM.format(waits=True, in_body=False)) as script:
        script.wait_for("waits", "in the wait")
        script.send(signal.SIGTERM)
        code, lines, _ = script.end()
    assert code == -signal.SIGTERM
    assert lines[-1] == "finished"


def test_a_program_that_ends_within_a_loop() -> None:
    """An unfinished iterator leaves no process, and hardly delays the exit."""
    code, lines, errors = run_script("""
        import itertools
        from amltk.scheduling import Scheduler

        scheduler = Scheduler.with_processes(2)
        calls = iter(scheduler.task(abs).map(itertools.count()).results())
        print(len(next(calls).args))
    """)
    assert (code, lines, errors) == (0, ["1"], "")


def test_asyncio_run_that_is_interrupted() -> None:
    """Ctrl-C in `asyncio.run` cancels the loop over the results, which ends its run in order."""
    with Script("""
        import asyncio, time
        from amltk.scheduling import Scheduler

        def compute(n):
            print("waits", flush=True)
            time.sleep(600)

        scheduler = Scheduler.with_processes(1)
        scheduler.on_finished(lambda: print("finished"))

        async def program():
            async for call in scheduler.task(compute).map(range(3)).results():
                pass

        asyncio.run(program())
    """) as script:
        script.wait_for("waits")
        script.send(signal.SIGINT)
        code, lines, _ = script.end()
    assert code == -signal.SIGINT
    assert lines[-1] == "finished"


def test_a_fork_of_the_program_leaves_the_run_alone() -> None:
    """A child forked in the body may exit in any way: the loop of the parent continues."""
    code, lines, errors = run_script("""
        import os, sys, warnings
        from amltk.scheduling import Scheduler

        warnings.simplefilter("ignore", DeprecationWarning)  # from CPython 3.12 on, of forking beside threads
        scheduler = Scheduler.with_processes(1)
        for call in scheduler.task(abs).map(range(3)).results():
            if call.args == (0,):
                child = os.fork()
                if child == 0:
                    sys.exit(0)
                os.waitpid(child, 0)
            print(call.args)
    """)
    assert (code, errors) == (0, "")
    assert sorted(lines) == ["(0,)", "(1,)", "(2,)"]
