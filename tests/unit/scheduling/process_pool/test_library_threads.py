"""The environment variables that tell libraries how many threads to use."""

from __future__ import annotations

import pytest

from amltk.scheduling.executors.process_pool._child import library_threads
from amltk.scheduling.executors.process_pool._child.library_threads import ACCELERATE, OPENMP, thread_environment


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with eight CPUs and none of the variables set."""
    monkeypatch.setattr(library_threads, "usable_cpus", lambda: 8)
    for name in (OPENMP, ACCELERATE, *library_threads.OWN.values()):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("workers", "threads"), [(1, "8"), (2, "4"), (3, "2"), (8, "1"), (100, "1")])
def test_the_workers_share_the_cpus(workers: int, threads: str) -> None:
    """Each worker gets its share of the CPUs, and at least one."""
    assert thread_environment(workers) == {OPENMP: threads, ACCELERATE: threads}


def test_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set is left alone; an empty one leaves the choice to the library."""
    for value in ("3", ""):
        monkeypatch.setenv(OPENMP, value)
        assert OPENMP not in thread_environment(2)
