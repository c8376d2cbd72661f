"""The effects of resources other than GPUs on a call in a worker process."""

from __future__ import annotations

import os

import pytest

from amltk.exceptions import MemoryLimitError
from amltk.scheduling import Limits, Resources, Scheduler, granted


def threads() -> tuple[object, str | None]:
    return granted().get("cpu"), os.environ.get("OMP_NUM_THREADS")


def take_memory(megabytes: int) -> int:
    return len(bytearray(megabytes << 20))


def test_libraries_use_as_many_threads_as_were_granted() -> None:
    """This applies per call, in the same worker; a call that requests none gets the worker's initial setting."""
    told = {}
    scheduler = Scheduler.with_processes(1, resources={"cpu": 8})
    tasks = {n: scheduler.task(threads, plugins=Resources(cpu=n)) for n in (3, 2)}
    plain = scheduler.task(threads)
    scheduler.on_future_result(lambda future, seen: told.setdefault(future.number, seen))

    @scheduler.on_start
    def begin() -> None:
        plain.submit()
        for task in tasks.values():
            task.submit()
        plain.submit()

    scheduler.run()
    before, three, two, after = (told[n] for n in sorted(told))
    assert (three, two) == ((3, "3"), (2, "2"))
    assert before == after
    assert before[0] is None


@pytest.mark.parametrize("enforce", [True, False])
def test_memory_is_enforced_if_wanted(enforce: bool) -> None:
    """With `enforce`, the requested amount is also the limit of the call."""
    scheduler = Scheduler.with_processes(1, resources={"memory": "4 GB"})
    task = scheduler.task(take_memory, plugins=Resources(memory="500 MB", enforce=enforce))
    scheduler.on_start(lambda: task.submit(1000))
    errors: list[BaseException] = []
    results: list[int] = []
    task.on_exception(lambda _, error: errors.append(error))
    task.on_result(lambda _, size: results.append(size))
    scheduler.run(on_exception="continue")
    if enforce:
        assert [type(error) for error in errors] == [MemoryLimitError]
        assert task.event_counts[Limits.MEMORY_LIMIT_REACHED] == 1
    else:
        assert (results, errors) == ([1000 << 20], [])
