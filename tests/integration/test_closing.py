"""A scheduler that is made and closed leaves nothing behind, whether or not it was run."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from amltk.scheduling import ExitState, Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

FACTORIES: dict[str, Callable[[], Scheduler]] = {
    "processes": lambda: Scheduler.with_processes(1),
    "threads": lambda: Scheduler.with_threads(1),
    "sequential": Scheduler.with_sequential,
    "loky": lambda: Scheduler.with_loky(1),
    "dask": lambda: Scheduler.with_dask(n_workers=1),
}


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_scheduler_that_was_never_run(factory: str) -> None:
    """Processes, threads and descriptors are gone; the fixture that applies to all tests checks for them."""
    scheduler = FACTORIES[factory]()
    scheduler.close()
    scheduler.close()


def test_a_run_in_another_thread() -> None:
    """`close` ends the run in order and waits for it."""
    scheduler = Scheduler.with_processes(1)
    began = threading.Event()
    states: list[ExitState] = []
    scheduler.on_start(lambda: began.set())
    thread = threading.Thread(target=lambda: states.append(scheduler.run(end_on_empty=False)))
    thread.start()
    began.wait()
    scheduler.close()
    thread.join()
    assert states[0].code is ExitState.Code.STOPPED


def test_a_run_in_the_loop_of_who_closes() -> None:
    """`close` does not wait, since it would block the loop; the end of the run shuts the executor down."""

    async def program() -> ExitState:
        scheduler = Scheduler.with_processes(1)
        run = asyncio.create_task(scheduler.async_run(end_on_empty=False))
        await asyncio.sleep(0)
        scheduler.close()
        return await run

    assert asyncio.run(program()).code is ExitState.Code.STOPPED
