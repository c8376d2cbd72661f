"""With real workers, nothing of a call is left after its ending, whatever plugins its task has."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import CallFolder, Memo, Scheduler
from tests.contract.plugins import PLUGINS, THERE_IS, Entry
from tests.helpers.freed import Kept, Thing, counting_references_only
from tests.helpers.gate import GUARD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CALLS = 4

FACTORIES: dict[str, Callable[[], Scheduler]] = {
    "processes": lambda: Scheduler.with_processes(1, resources=THERE_IS),
    "threads": lambda: Scheduler.with_threads(1),
    "loky": lambda: Scheduler.with_loky(1),
}
HOW = ("returns", "fails", "is cancelled")
ELSEWHERE = {"threads": {"limiter", "queue", "retry", "comm"}, "loky": {"limiter", "comm"}}
"""What is tried besides process pools: what the other plugins add to a call is the same everywhere."""

_keys = itertools.count()

KEYED: dict[str, Callable[[Path], Any]] = {
    "memo": lambda folder: Memo(folder / "memo", key=lambda *_, **__: next(_keys)),
    "call-folder": lambda folder: CallFolder(folder, key=lambda *_, **__: next(_keys)),
}
"""Plugins that compare calls by their arguments, which a `Thing` does not support."""


class ComputeError(Exception):
    """What `compute` raises in these tests."""


def compute(thing: Thing, how: str, *, comm: Any = None) -> Thing:
    if comm is not None:
        with comm.open():
            comm.send("begun")
    if how == "fails":
        raise ComputeError
    return thing


def follow_calls(scheduler: Scheduler, plugins: list[Any], how: str, kept: Kept) -> dict[str, int]:
    """Run calls of a task; return what is left of them while the run is still going on."""
    task = scheduler.task(compute, plugins=plugins)
    task.on_result(lambda _, result: kept.add("result", result))
    task.on_exception(lambda _, error: kept.add("exception", error))
    left: list[dict[str, int]] = []
    give_up = time.monotonic() + GUARD

    def submit() -> None:
        thing = Thing()
        future: Any = task.submit(thing, how)
        kept.add("argument", thing)
        if future is not None:
            kept.add("future", future)
            if how == "is cancelled":
                future.cancel()

    def look() -> None:
        if (kept.alive or not scheduler.empty()) and time.monotonic() < give_up:
            scheduler.call_later(0.001, look)
        else:
            left.append(kept.alive)
            scheduler.stop()

    @scheduler.on_start
    def launch() -> None:
        scheduler.call_later(0, look)
        for _ in range(CALLS):
            submit()

    scheduler.run(display=False, end_on_empty=False, on_exception="continue", on_cancelled="continue")
    return left[0]


def cases() -> list[Any]:
    return [
        pytest.param(factory, entry, id=f"{factory}-{entry}")
        for factory in FACTORIES
        for entry in PLUGINS
        if entry.name in ELSEWHERE.get(factory, {entry.name})
    ]


@pytest.mark.parametrize(("factory", "entry"), cases())
def test_nothing_of_a_call_is_left_whatever_plugins_it_has(factory: str, entry: Entry, tmp_path: Path) -> None:
    """Argument, result, exception and future are freed after the last event, while the run is still going on."""
    for how in HOW:
        plugin = KEYED.get(entry.name, entry.make)(tmp_path)
        with counting_references_only() as kept:
            assert follow_calls(FACTORIES[factory](), [plugin], how, kept) == {}, how
            assert kept["argument"]
