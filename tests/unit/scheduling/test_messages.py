"""Common mistakes and habits get an error that says what to write."""

from __future__ import annotations

import inspect
import pickle
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from amltk._checks import explains_options
from amltk.scheduling import Comm, Limits, Retry, Scheduler
from amltk.scheduling.executors import ProcessPool

if TYPE_CHECKING:
    from collections.abc import Callable


def work(x: object = None) -> object:
    return x


MISTAKES: list[tuple[Callable[[Any], object], str]] = [
    (lambda s: s.task(work, plugins=Limits), r"Limits is no Plugin, but a class of them: write plugins=Limits\(...\)"),
    (lambda s: s.task(work, plugins=[Retry]), r"write plugins=Retry\(...\)"),
    (lambda s: s.task(work, plugins=Comm), r"Comm is no Plugin: write plugins=Comm.Plugin\(\)"),
    (lambda s: s.task(work, plugins="limits"), r"'limits' is no Plugin: write for instance"),
    (lambda s: s.task(work, plugins=3), r"3 is no Plugin"),
    (lambda s: s.task(work, plugin=3), r"task\(\) has no option plugin: write plugins=3"),
    (lambda s: s.run(time_limit=60), r"run\(\) has no option time_limit: write timeout=60"),
    (lambda s: s.run(on_exceptions="end"), r"write on_exception='end'"),
    (lambda s: s.run(xyz=1), r"run\(\) has no option xyz: it has timeout, end_on_empty, "),
    (lambda s: s.task(work).map([], n_jobs=2), r"pass the workers to the factory"),
    (lambda s: s.task(work).map([], in_fligth=2), r"write in_flight=2"),
    (lambda s: s.task(work).map([]).results(in_flight=2), r"give it to map\(in_flight=...\)"),
    (lambda s: Scheduler.with_processes(n_jobs=4), r"with_processes\(\) has no option n_jobs: write max_workers=4"),
    (lambda s: Scheduler.with_processes(n_jobs=-1), r"leave out max_workers, which is as many as there are CPUs then"),
    (lambda s: Scheduler.with_threads(workers=4), r"write max_workers=4"),
    (lambda s: Scheduler.with_loky(n_jobs=4), r"write max_workers=4"),
    (lambda s: Scheduler.with_mpi(n_jobs=4), r"write max_workers=4"),
    (lambda s: Scheduler.with_dask(n_jobs=4), r"write n_workers=4"),
    (lambda s: Scheduler.with_ray(n_jobs=4), r"write max_workers=4"),
    (lambda s: Scheduler.with_slurm(n_jobs=4), r"write n_workers=4"),
    (lambda s: Scheduler.with_pbs(n_jobs=3), r"write n_workers=3"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes(mistake: Callable[[Any], object], message: str) -> None:
    """Each raises a TypeError that says what to write, before anything starts."""
    with pytest.raises(TypeError, match=message):
        mistake(Scheduler.with_sequential())


def test_a_function_with_explained_options_stays_what_it_is() -> None:
    """A function with explained options keeps its name, signature and parameters; what it passes on is not examined."""

    @explains_options(b="a")
    def function(a: int = 0, **options: int) -> tuple[int, dict[str, int]]:
        return a, options

    assert function(1, c=2) == (1, {"c": 2})
    assert list(inspect.signature(function).parameters) == ["a", "options"]
    with pytest.raises(TypeError, match=r"function\(\) has no option b: write a=1"):
        function(b=1)


def test_a_future_in_an_object() -> None:
    """A future in an object cannot be sent to a worker: the error names its call, its location and the remedy."""
    scheduler = Scheduler(ProcessPool(1))
    scheduler.on_start(lambda: scheduler.submit(work, SimpleNamespace(model=scheduler.submit(work, 7))))
    what = r"args\[0\]\.model.*the future of work\(7\) cannot be sent .* pass it as an argument of its own"
    with pytest.raises(TypeError, match=what):
        scheduler.run()
    scheduler = Scheduler.with_sequential()
    scheduler.on_start(lambda: pickle.dumps(scheduler.submit(work)))
    with pytest.raises(TypeError, match="cannot be sent"):
        scheduler.run()
