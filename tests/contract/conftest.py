"""What every test of the contract starts from."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from amltk.testing import EventRecorder
from tests.contract.backends import BACKENDS, Backend
from tests.contract.engines import ENGINES
from tests.helpers.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the modules that an entry does not name."""

    def is_wanted(item: pytest.Item) -> bool:
        entry = (
            item.callspec.params.get("backend")
            if isinstance(item, pytest.Function) and hasattr(item, "callspec")
            else None
        )
        modules = entry.modules if isinstance(entry, Backend) else None
        return modules is None or item.path.stem in modules

    items[:] = [item for item in items if is_wanted(item)]


@pytest.fixture(params=BACKENDS, ids=str, scope="session")
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each way to get a scheduler. Session-wide: the tests that share a cluster run together."""
    entry: Backend = request.param
    with nullcontext() if entry.engine is None else ENGINES[entry.engine]():
        yield entry


@pytest.fixture
def capabilities(backend: Backend) -> Capabilities:
    """What the registry claims for it."""
    return backend.capabilities


@pytest.fixture
def make(backend: Backend) -> Iterator[Callable[..., Scheduler]]:
    """Makes schedulers; afterwards the book of each must be closed: every submission had exactly one ending."""
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
    """Where work stops until the test lets it go on; opened at the end of the test at the latest."""
    with Gate() as gate:
        yield gate


def assert_book_is_closed(scheduler: Scheduler, recorder: EventRecorder) -> None:
    """Hold what is true of every run, however it ends."""
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
