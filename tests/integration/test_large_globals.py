"""Neither a pool that has sent a value nor its scheduler keeps it after the program has released it."""

from __future__ import annotations

import pytest

from tests.helpers.script import run_script

BEGINNING = """
import gc, weakref
from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool

gc.disable()

class Table:
    def __init__(self, n):
        self.n = n

table = Table(1)

def look():
    return table.n

def other():
    return 0

def compute(scheduler, *functions):
    scheduler.on_start(lambda: [scheduler.submit(function) for function in functions], max_calls=1)
    scheduler.run(display=False)

def is_freed(of):
    print("freed" if of() is None else "kept")
"""

PROGRAMS = {
    "set anew, and used again": """
        with ProcessPool(1) as pool:
            first = weakref.ref(table)
            print(pool.submit(look).result())
            table = Table(2)
            print(pool.submit(look).result())
            is_freed(first)
    """,
    "set anew, while the pool defines something else": """
        with ProcessPool(1) as pool:
            first = weakref.ref(table)
            print(pool.submit(look).result())
            table = None
            print(pool.submit(other).result())
            is_freed(first)
    """,
    "set anew between two runs": """
        with Scheduler.with_processes(1) as scheduler:
            first = weakref.ref(table)
            compute(scheduler, look)
            table = None
            compute(scheduler, other)
            is_freed(first)
    """,
    "gone after the run": """
        scheduler = Scheduler.with_processes(1)
        first = weakref.ref(table)
        compute(scheduler, look)
        del table
        is_freed(first)
    """,
    "gone during the run": """
        with Scheduler.with_processes(1) as scheduler:
            first = weakref.ref(table)
            @scheduler.on_future_result
            def forget(_, result):
                global table
                table = None
            compute(scheduler, look)
            is_freed(first)
    """,
    "a function with a closure": """
        scheduler = Scheduler.with_processes(1)
        def make():
            local = Table(3)
            return weakref.ref(local), lambda: local.n
        first, function = make()
        compute(scheduler, function)
        del function
        is_freed(first)
    """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_large_global_is_freed(name: str) -> None:
    """A value sent to workers is freed when the program releases it, without the garbage collector."""
    from textwrap import dedent

    ended = run_script(BEGINNING + dedent(PROGRAMS[name]))
    assert (ended.errors, ended.lines[-1:]) == ("", ["freed"])
