"""What `async def` callbacks await through `once` runs once, and its value is replayed."""

from __future__ import annotations

import asyncio
import operator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from amltk.exceptions import JournalError, JournalMismatchError, JournalUnsupportedError
from amltk.scheduling import Scheduler
from amltk.testing import SimulatedExecutor, crash_everywhere, run_in_virtual_time

FETCHED: list[int] = []


class FetchError(Exception):
    """Raised by the server now and then."""


async def fetch(number: int) -> int:
    """Query a server that takes a while and answers differently each time."""
    await asyncio.sleep(1.5)
    FETCHED.append(number)
    if number % 4 == 3:
        raise FetchError(number)
    return len(FETCHED)


def program(folder: Path | None) -> list[Any]:
    """Two callbacks that query a server between calls; its answers decide what they submit."""
    scheduler = Scheduler(SimulatedExecutor(2, duration=lambda fn, x: 1.0 + x % 3, outcome=operator.call))
    task = scheduler.task(operator.neg)
    told: list[Any] = []

    @scheduler.on_start(repeat=2)
    async def chain() -> None:
        for number in range(4):
            try:
                answer = await scheduler.once(fetch, number)
            except FetchError as error:
                told.append(str(error))
                continue
            told.append((number, answer, scheduler.now() > 0))
            told.append(await task.submit(answer))
        told.append(await asyncio.gather(scheduler.once(fetch, 8), task.submit(100), scheduler.once(fetch, 9)))

    run_in_virtual_time(scheduler.async_run(journal=folder, display=False))
    return told


@pytest.fixture(autouse=True)
def nothing_fetched() -> None:
    FETCHED.clear()


def test_it_survives_crashes() -> None:
    """Wherever the program is killed, callbacks get the same answers; finished queries are not repeated."""
    told = crash_everywhere(program)
    assert len([what for what in told if isinstance(what, str)]) == 2
    FETCHED.clear()
    program(None)
    assert len(FETCHED) == 12


def test_nothing_is_asked_again(tmp_path: Path) -> None:
    """A finished journal contains all answers."""
    told = program(tmp_path / "journal")
    asked = len(FETCHED)
    assert program(tmp_path / "journal") == told
    assert len(FETCHED) == asked == 12


def test_save_and_load(tmp_path: Path) -> None:
    """A value that cannot be pickled is recorded by the program's own functions."""

    def run(*, save: bool) -> Any:
        scheduler = Scheduler.with_sequential()
        told: list[Any] = []

        async def connect() -> Any:
            await asyncio.sleep(0)
            return iter([1, 2, 3]).__next__

        @scheduler.on_start
        async def begin() -> None:
            options: dict[str, Any] = {"save": lambda _: "saved", "load": lambda what: lambda: what} if save else {}
            made = await scheduler.once(connect, **options)
            told.append(made())

        scheduler.run(journal=tmp_path / "journal", display=False)
        return told

    assert run(save=True) == [1]
    assert run(save=True) == ["saved"]


def test_what_cannot_be_pickled(tmp_path: Path) -> None:
    """A value that cannot be recorded ends the run with an error that names the function."""
    scheduler = Scheduler.with_sequential()

    async def lock() -> Any:
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    @scheduler.on_start
    async def begin() -> None:
        await scheduler.once(lock)

    with pytest.raises(JournalError, match=r"once.*lock"):
        scheduler.run(journal=tmp_path / "journal", display=False)


def test_another_function(tmp_path: Path) -> None:
    """A callback that awaits a different function than before is an error."""

    async def other(number: int) -> int:
        await asyncio.sleep(0)
        return number

    for fn in (fetch, other):
        scheduler = Scheduler(SimulatedExecutor(2))

        @scheduler.on_start
        async def begin(scheduler: Scheduler = scheduler, fn: Any = fn) -> None:
            await scheduler.once(fn, 1)

        run = scheduler.async_run(journal=tmp_path / "journal", display=False)
        if fn is fetch:
            run_in_virtual_time(run)
        else:
            with pytest.raises(JournalMismatchError, match="fetch"):
                run_in_virtual_time(run)


def test_a_run_that_is_interrupted(tmp_path: Path) -> None:
    """What is awaited when the run is interrupted is cancelled, and starts again in the next session."""

    def run(*, stop: bool) -> list[Any]:
        scheduler = Scheduler(SimulatedExecutor(2))
        told: list[Any] = []

        @scheduler.on_start
        async def begin() -> None:
            told.append(await scheduler.once(fetch, 1))

        async def main() -> None:
            life = asyncio.create_task(scheduler.async_run(journal=tmp_path / "journal", display=False))
            await asyncio.sleep(1.0)
            if stop:
                life.cancel()
            await life

        if stop:
            with pytest.raises(asyncio.CancelledError):
                run_in_virtual_time(main())
        else:
            run_in_virtual_time(main())
        return told

    assert run(stop=True) == []
    assert FETCHED == []
    assert run(stop=False) == [1]
    assert FETCHED == [1]


@pytest.mark.parametrize("by", ["group", "gather", "task"])
def test_pipelines_are_callbacks(tmp_path: Path, by: str) -> None:
    """Tasks that a callback begins are refused, with what to write instead; and that survives."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(abs)

    async def pipeline(number: int) -> int:
        return await task.submit(await task.submit(number))

    @scheduler.on_start
    async def all_of_them() -> None:
        if by == "gather":
            await asyncio.gather(*map(pipeline, [1, 2]))
        elif by == "task":
            await asyncio.create_task(pipeline(1))
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(pipeline(1))

    with pytest.raises(JournalUnsupportedError, match=r"be a callback, `scheduler.on_start\(partial\(fn, x\)\)`"):
        scheduler.run(journal=tmp_path / "journal", display=False)


def test_a_callback_for_each_pipeline() -> None:
    """Wherever the program is killed, each pipeline arrives at the same."""

    def pipelines(folder: Path | None) -> list[Any]:
        scheduler = Scheduler(SimulatedExecutor(2, duration=lambda fn, x: 1 + x % 3, outcome=operator.call))
        task = scheduler.task(lambda x: x + 1)
        told: list[Any] = []

        async def pipeline(number: int) -> None:
            first = await task.submit(number)
            told.append((number, await asyncio.gather(*[task.submit(first * n) for n in range(3)])))

        for number in range(3):
            scheduler.on_start(partial(pipeline, number))
        run_in_virtual_time(scheduler.async_run(journal=folder, display=False))
        return told

    assert crash_everywhere(pipelines) == pipelines(None)
