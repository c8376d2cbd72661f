"""How many threads numerical libraries use in workers, by default and with the plugin, whenever they are loaded."""

from __future__ import annotations

import os
from typing import Any

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.process_pool._child.library_threads import ACCELERATE, OPENMP, OWN
from amltk.scheduling.plugins import ThreadPoolCTLPlugin
from tests.helpers.gate import GUARD
from tests.helpers.script import run_script

on_each = pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])

CPUS = 4
"""The number of CPUs that all tests here pretend to have; libraries accept it even if there are fewer."""


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with four CPUs and no settings."""
    monkeypatch.setattr("amltk.scheduling.executors.process_pool._child.library_threads.usable_cpus", lambda: CPUS)
    for name in (OPENMP, ACCELERATE, *OWN.values()):
        monkeypatch.delenv(name, raising=False)


def threads() -> dict[str, int]:
    """Return the libraries that numpy and scikit-learn load, now if not before, and how many threads they use."""
    import numpy as np  # noqa: F401 - brings BLAS
    import sklearn.utils._openmp_helpers  # noqa: F401 - brings OpenMP
    from threadpoolctl import threadpool_info

    return {pool["user_api"]: pool["num_threads"] for pool in threadpool_info()}


def both(blas: int, openmp: int) -> dict[str, int]:
    """Return what `threads` is to return; OpenBLAS does not use more threads than there are CPUs."""
    return {"blas": min(blas, os.cpu_count() or 1), "openmp": openmp}


def variable(name: str) -> str | None:
    return os.environ.get(name)


@on_each
def test_by_default(method: str) -> None:
    """Two workers get half of the CPUs each; with `fork` they never use more threads than this process."""
    expected = both(CPUS // 2, CPUS // 2)
    if method == "fork":
        expected = {kind: min(number, expected[kind]) for kind, number in threads().items()}
    with ProcessPool(2, method) as pool:
        assert pool.submit(threads).result(GUARD) == expected
        assert pool.submit(variable, OPENMP).result(GUARD) == str(CPUS // 2)
    assert OPENMP not in os.environ


@on_each
def test_what_the_environment_says(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's variable takes effect."""
    monkeypatch.setenv(OPENMP, "2")
    with ProcessPool(4, method) as pool:
        assert pool.submit(variable, OPENMP).result(GUARD) == "2"
        if method != "fork":  # with fork, this process read it when the library was loaded
            assert pool.submit(threads).result(GUARD) == both(2, 2)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_one_librarys_variable_says(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library's variable applies to this library only."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with ProcessPool(4, method) as pool:
        found = pool.submit(threads).result(GUARD)
    assert found["openmp"] == 1
    assert found["blas"] in both(2, 1).values()  # 1 if it is not OpenBLAS


def say_two() -> None:
    os.environ[OPENMP] = "2"


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_an_initializer_says(method: str) -> None:
    """An initializer can change the variable before libraries are loaded."""
    with ProcessPool(4, method, initializer=say_two) as pool:
        assert pool.submit(threads).result(GUARD) == both(2, 2)


def test_loky() -> None:
    """loky's workers share the CPUs as well, unless their `env` says otherwise."""
    scheduler = Scheduler.with_loky(2)
    said = Scheduler.with_loky(2, env={OPENMP: "2"})
    assert outcome(scheduler, variable, OPENMP) == str(CPUS // 2)
    assert outcome(said, variable, OPENMP) == "2"


def outcome(scheduler: Scheduler, fn: Any, *args: Any, plugins: Any = ()) -> Any:
    task = scheduler.task(fn, plugins=plugins)
    results: list[Any] = []
    task.on_result(lambda _, result: results.append(result))
    scheduler.on_start(lambda: task.submit(*args))
    scheduler.run()
    return results[0]


LATER = """
    import sys
    from amltk.scheduling import Scheduler
    from amltk.scheduling.plugins import ThreadPoolCTLPlugin


    def threads():
        import numpy
        import sklearn.ensemble
        from threadpoolctl import threadpool_info

        ours = [finder for finder in sys.meta_path if type(finder).__module__.startswith("amltk.scheduling.plugins")]
        return sorted((pool["user_api"], pool["num_threads"]) for pool in threadpool_info()), len(ours)


    scheduler = Scheduler.with_processes(1, mp_context={method!r})
    limited, free = scheduler.task(threads, plugins=ThreadPoolCTLPlugin({arguments})), scheduler.task(threads)
    scheduler.on_start(lambda: [limited.submit(), free.submit()])
    scheduler.on_future_result(lambda _, result: print(dict(result[0]), result[1]))
    scheduler.run(display=False)
"""


@on_each
def test_libraries_that_are_loaded_within_the_call(method: str) -> None:
    """A worker's first call limits what it imports itself; a later call without the plugin is not limited."""
    ended = run_script(LATER.format(method=method, arguments="1"), env={OPENMP: "2"})
    assert (ended.code, ended.lines) == (0, [f"{both(1, 1)} 1", f"{both(2, 2)} 0"]), ended.errors


@pytest.mark.parametrize(
    ("arguments", "blas", "openmp"), [("1, 'openmp'", 2, 1), ("{'blas': 1}", 1, 2), ("{'blas': 1, 'openmp': 3}", 1, 3)]
)
def test_kinds_of_libraries_that_are_loaded_within_the_call(arguments: str, blas: int, openmp: int) -> None:
    """Libraries loaded later are limited by kind, like those loaded before."""
    ended = run_script(LATER.format(method="forkserver", arguments=arguments), env={OPENMP: "2"})
    assert (ended.code, ended.lines[0]) == (0, f"{both(blas, openmp)} 1"), ended.errors


def limits_of_its_own() -> list[dict[str, int]]:
    """Set limits within the call and load a library meanwhile; of several libraries of a kind, the maximum counts."""
    import numpy as np  # noqa: F401 - brings a BLAS
    from threadpoolctl import threadpool_info, threadpool_limits

    def most() -> dict[str, int]:
        counts: dict[str, int] = {}
        for pool in threadpool_info():
            counts[pool["user_api"]] = max(pool["num_threads"], counts.get(pool["user_api"], 0))
        return counts

    with threadpool_limits(2):
        import sklearn.utils._openmp_helpers  # noqa: F401 - brings OpenMP, and another BLAS

        meanwhile = most()
    return [meanwhile, most()]


def test_a_limit_of_the_calls_own() -> None:
    """A limit set by the call itself survives an import; libraries loaded then are limited by the plugin."""
    found = outcome(Scheduler.with_processes(1, mp_context="spawn"), limits_of_its_own, plugins=ThreadPoolCTLPlugin(1))
    assert found == [both(2, 1), both(1, 1)]
