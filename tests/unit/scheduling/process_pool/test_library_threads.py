"""The variables by which libraries are told how many threads they use."""

from __future__ import annotations

import pytest

from amltk.scheduling.executors.process_pool._child import library_threads
from amltk.scheduling.executors.process_pool._child.library_threads import ACCELERATE, OPENMP, thread_environment


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of eight CPUs where nobody has said anything."""
    monkeypatch.setattr(library_threads, "usable_cpus", lambda: 8)
    for name in (OPENMP, ACCELERATE, *library_threads.OWN.values()):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("workers", "threads"), [(1, "8"), (2, "4"), (3, "2"), (8, "1"), (100, "1")])
def test_the_workers_share_the_cpus(workers: int, threads: str) -> None:
    """Each worker has its part of the CPUs, and at least one."""
    assert thread_environment(workers) == {OPENMP: threads, ACCELERATE: threads}


def test_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set stays as it is; one that is empty asks for the library's own choice."""
    for value in ("3", ""):
        monkeypatch.setenv(OPENMP, value)
        assert OPENMP not in thread_environment(2)
