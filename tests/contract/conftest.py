"""What every test of the contract builds on."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from amltk.testing import EventRecorder
from tests.contract import strangers
from tests.contract.backends import BACKENDS, ExecutorAdapter
from tests.contract.engines import ENGINES
from tests.contract.strangers import STRANGERS
from tests.helpers.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deselect tests that an entry does not list or cannot run here, and mark those known to fail."""
    kept: list[pytest.Item] = []
    absent: set[ExecutorAdapter] = set()
    for item in items:
        entry = _entry(item)
        if entry is None or (entry.is_installed and _is_of(entry, item)):
            kept.append(item)
        elif not entry.is_installed and entry not in absent:  # report it once
            absent.add(entry)
            kept.append(item)
        if entry is not None and entry.warns is not None:
            item.add_marker(pytest.mark.filterwarnings(f"ignore:{entry.warns}"))
        if entry is not None and (why := _known_failure(entry, item)):
            strict = not why.startswith("sometimes")
            item.add_marker(pytest.mark.xfail(reason=why, run=not why.startswith("hangs"), strict=strict))
    items[:] = kept


def _entry(item: pytest.Item) -> ExecutorAdapter | None:
    entry = (
        item.callspec.params.get("backend") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None
    )
    return entry if isinstance(entry, ExecutorAdapter) else None


def _is_of(entry: ExecutorAdapter, item: pytest.Item) -> bool:
    return entry.modules is None or item.path.stem in entry.modules


def _known_failure(entry: ExecutorAdapter, item: pytest.Item) -> str | None:
    name = item.name.replace(f"[{entry.name}]", "").replace(f"[{entry.name}-", "[")
    return entry.lacks.get(name) or entry.lacks.get(name.partition("[")[0])


@pytest.fixture(params=(*BACKENDS, *STRANGERS), ids=str, scope="session")
def backend(request: pytest.FixtureRequest) -> Iterator[ExecutorAdapter]:
    """Each way to create a scheduler. Session-scoped: the tests that share a cluster run together."""
    entry: ExecutorAdapter = request.param
    if not entry.is_installed:
        pytest.skip(f"!!! NOT TESTED ON {entry}: {entry.needs} is not installed")
    with nullcontext() if entry.engine is None else (ENGINES | strangers.ENGINES)[entry.engine]():
        yield entry


@pytest.fixture
def capabilities(backend: ExecutorAdapter) -> Capabilities:
    """The capabilities that the registry claims for it."""
    return backend.capabilities


@pytest.fixture
def make(backend: ExecutorAdapter) -> Iterator[Callable[..., Scheduler]]:
    """Creates schedulers and checks at the end that every submission had exactly one outcome."""
    recorders: list[tuple[Scheduler, EventRecorder]] = []

    def make(workers: int = 2) -> Scheduler:
        scheduler = backend.make(workers)
        recorders.append((scheduler, EventRecorder(scheduler)))
        return scheduler

    yield make
    for scheduler, recorder in recorders:
        assert_book_is_closed(scheduler, recorder)


@pytest.fixture
def scheduler(make: Callable[..., Scheduler]) -> Scheduler:
    """A scheduler with two workers."""
    return make()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Blocks work until the test lets it continue; opened at the end of the test at the latest."""
    with Gate() as gate:
        yield gate


def assert_book_is_closed(scheduler: Scheduler, recorder: EventRecorder) -> None:
    """Assert the invariants of every run, however it ends."""
    counts = scheduler.event_counts
    endings = counts[scheduler.FUTURE_RESULT] + counts[scheduler.FUTURE_EXCEPTION] + counts[scheduler.FUTURE_CANCELLED]
    assert counts[scheduler.FUTURE_SUBMITTED] == endings
    assert counts[scheduler.FUTURE_DONE] == counts[scheduler.FUTURE_RESULT] + counts[scheduler.FUTURE_EXCEPTION]
    assert counts[scheduler.STARTED] == counts[scheduler.FINISHING] == counts[scheduler.FINISHED]
    if recorder.names:
        assert recorder.names[0] == "start"
        assert recorder.names[-1] == "finished"
    assert not scheduler.running()
    assert scheduler.empty()
    assert scheduler.queue == []
