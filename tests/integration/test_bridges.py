"""Bridges to threadpoolctl, warnings, codecarbon and pynisher, each with the real library on real workers."""

from __future__ import annotations

import csv
import os
import signal
import sys
import time
import warnings
from collections import defaultdict
from datetime import timedelta
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.plugins import EmissionsTrackerPlugin, PynisherPlugin, ThreadPoolCTLPlugin, WarningFilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling import Plugin

pytestmark = pytest.mark.integration

MAKERS: dict[str, Callable[[], Scheduler]] = {
    "processes": lambda: Scheduler.with_processes(1),
    "threads": lambda: Scheduler.with_threads(1),
    "sequential": Scheduler.with_sequential,
}
on_each = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def outcomes(scheduler: Scheduler, *programs: tuple[Callable[..., Any], Plugin | tuple[()]]) -> list[Any]:
    """Return the result or exception of one call of each function with its plugin, in the order given."""
    tasks = [scheduler.task(function, plugins=plugins) for function, plugins in programs]
    found: dict[Any, Any] = {}
    for task in tasks:
        task.on_result(lambda _, result, task=task: found.update({task: result}))
        task.on_exception(lambda _, error, task=task: found.update({task: error}))
    scheduler.on_start(lambda: [task.submit() for task in tasks])
    scheduler.run(on_exception="continue")
    return [found[task] for task in tasks]


# ---------------------------------------------------------------------------------------------------- threadpoolctl


def pools() -> set[tuple[str, int]]:
    """Return the thread-using libraries that numpy loads, and how many threads each may use."""
    import numpy as np
    from threadpoolctl import threadpool_info

    np.zeros(2)
    return {(pool["user_api"], pool["num_threads"]) for pool in threadpool_info()}


@on_each
def test_threads_of_blas_are_limited(make: Any) -> None:
    """During the call there is one thread; before and after it, as many as there were."""
    free, limited, again = outcomes(make(), (pools, ()), (pools, ThreadPoolCTLPlugin(1)), (pools, ()))
    assert {number for _, number in limited} == {1}
    assert free == again
    assert {api for api, _ in limited} == {api for api, _ in free} >= {"blas"}


def test_one_kind_of_library_is_limited() -> None:
    """A limit on another kind of library leaves BLAS alone."""
    free, openmp, blas = outcomes(
        MAKERS["processes"](),
        (pools, ()),
        (pools, ThreadPoolCTLPlugin(1, user_api="openmp")),
        (pools, ThreadPoolCTLPlugin({"blas": 1})),
    )
    assert ("blas", 1) in blas
    assert {pool for pool in openmp if pool[0] == "blas"} == {pool for pool in free if pool[0] == "blas"}


def test_a_kind_that_there_is_not() -> None:
    """A misspelt library is rejected with an error that lists the valid ones."""
    with pytest.raises(ValueError, match=r"user_api='mkl': must be 'blas', 'openmp', or None for both"):
        ThreadPoolCTLPlugin(1, user_api="mkl")


# ---------------------------------------------------------------------------------------------------- warnings


def warn() -> str:
    warnings.warn("of the future", FutureWarning, stacklevel=1)
    return "warned"


@on_each
def test_a_warning_is_an_error_in_that_task_only(make: Any) -> None:
    """The filter applies in the worker to the calls of its task, and to no others."""
    kept = list(warnings.filters)
    failed, passed = outcomes(make(), (warn, WarningFilter("error")), (warn, WarningFilter("ignore")))
    assert isinstance(failed, FutureWarning)
    assert passed == "warned"
    assert warnings.filters == kept


# ---------------------------------------------------------------------------------------------------- codecarbon


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run two calls under codecarbon; return their outcomes and the lines that were written."""
    folder = tmp_path_factory.mktemp("emissions")
    plugin = EmissionsTrackerPlugin(
        "trials", country_iso_code="DEU", output_dir=str(folder), log_level="error", force_cpu_power=10, gpu_ids=[]
    )
    asked = folder / "asked"
    scheduler = Scheduler.with_processes(1, initializer=note_questions, initargs=(str(asked),))
    task_outcomes = outcomes(scheduler, (answer, plugin), (fail, plugin))
    with (folder / "emissions.csv").open() as file:
        lines = list(csv.DictReader(file))
    return {"outcomes": task_outcomes, "lines": lines, "status": plugin.status(), "asked": asked.exists()}


def note_questions(path: str) -> None:
    """Create a file as soon as this process looks up the address of a server."""
    questions = {"socket.getaddrinfo", "socket.gethostbyname"}
    sys.addaudithook(lambda event, _: open(path, "a").close() if event in questions else None)


def answer() -> int:
    return 42


def fail() -> None:
    raise ZeroDivisionError("mine")


def test_each_call_is_measured(measured: dict[str, Any]) -> None:
    """Each call, failed or not, writes a line of measurements, offline, and its outcome is unchanged."""
    result, error = measured["outcomes"]
    assert result == 42
    assert isinstance(error, ZeroDivisionError)
    assert len(measured["lines"]) == 2
    for line in measured["lines"]:
        assert (line["project_name"], line["country_iso_code"]) == ("trials", "DEU")
        assert float(line["energy_consumed"]) > 0
        assert float(line["emissions"]) > 0
    assert measured["status"] == "OfflineEmissionsTracker"
    assert not measured["asked"]


def test_a_wrong_argument_of_codecarbon_is_refused_at_once() -> None:
    """An argument that codecarbon does not accept raises when the plugin is made, not just in a worker's log."""
    with pytest.raises(TypeError, match="colour"):
        EmissionsTrackerPlugin(colour="green")
    assert EmissionsTrackerPlugin().status() == "EmissionsTracker"


# ---------------------------------------------------------------------------------------------------- pynisher


def sleep() -> None:
    time.sleep(60)


def burn() -> None:
    while True:
        pass


def grow() -> int:
    return len(bytearray(3_000_000_000))


def ancestors() -> list[int]:
    """Return the ancestors: with the start method forkserver, CPython 3.14's default, the parent is its server."""
    return [process.pid for process in psutil.Process().parents()]


needs_limits_of_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and limits of memory")


@needs_limits_of_linux
def test_each_limit_of_pynisher_fails_its_call_and_has_its_events() -> None:
    """A call that hits a limit fails with pynisher's error after the limit's events; other calls are unaffected."""
    scheduler = Scheduler.with_processes(4)
    told: dict[str, list[str]] = defaultdict(list)
    plugins = [
        PynisherPlugin(walltime_limit=1),
        PynisherPlugin(cputime_limit=(1, "s")),
        PynisherPlugin(memory_limit=(1, "GB")),
        PynisherPlugin(walltime_limit=(1, "h"), memory_limit=(4, "GB")),
    ]
    functions = [sleep, burn, grow, fail]

    def listen() -> None:
        for task in scheduler.tasks:
            for event in task.plugins[0].events():
                task.on(event)(lambda error, task=task, event=event: told[task.name].append(event.name))

    scheduler.on_start(listen)
    errors = outcomes(scheduler, *zip(functions, plugins, strict=True))
    assert isinstance(errors[0], PynisherPlugin.WallTimeoutException)
    assert isinstance(errors[1], PynisherPlugin.CpuTimeoutException)
    assert isinstance(errors[2], PynisherPlugin.MemoryLimitException)
    assert isinstance(errors[3], ZeroDivisionError)
    assert told == {
        "sleep": ["pynisher-timeout", "pynisher-walltime-limit"],
        "burn": ["pynisher-timeout", "pynisher-cputime-limit"],
        "grow": ["pynisher-memory-limit"],
    }


def test_pynisher_computes_in_a_process_of_its_own() -> None:
    """The call's process is a child of the worker; the worker stays and keeps its signal handlers."""
    above, pid, handler = outcomes(
        Scheduler.with_processes(1),
        (ancestors, PynisherPlugin(walltime_limit=60)),
        (os.getpid, ()),
        (sigterm, ()),
    )
    assert pid in above
    assert pid != os.getpid()
    assert handler == outcomes(Scheduler.with_processes(1), (sigterm, ()))[0]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@needs_limits_of_linux
def test_pynisher_leaves_nothing_in_the_worker() -> None:
    """A worker's number of open files does not grow with each call."""
    limited = PynisherPlugin(walltime_limit=60)
    found = outcomes(Scheduler.with_processes(1), *[(int, limited), (descriptors, ())] * 20)[1::2]
    assert max(found) - min(found) < len(found)


def sigterm() -> str:
    return repr(signal.getsignal(signal.SIGTERM))


def test_pynisher_in_the_process_of_the_run() -> None:
    """Limits also work in a sequential run, in a child of its process."""
    (above,) = outcomes(Scheduler.with_sequential(), (ancestors, PynisherPlugin(walltime_limit=60)))
    assert os.getpid() in above


def nap() -> str:
    time.sleep(0.05)
    return "answer"


def test_pynisher_misses_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is lost if the process answers and exits between the poll for an answer and the liveness check."""
    is_alive = BaseProcess.is_alive

    def look_late(process: BaseProcess) -> bool:
        process.join(0.1)
        return is_alive(process)

    monkeypatch.setattr(BaseProcess, "is_alive", look_late)
    assert outcomes(Scheduler.with_sequential(), (nap, PynisherPlugin(walltime_limit=60))) == ["answer"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"walltime_limit": 0}, "must be"),
        ({"memory_limit": (1, "parsec")}, "PARSEC"),
        ({"context": "teleport"}, "teleport"),
    ],
)
def test_wrong_limits_are_refused_at_once(options: Any, says: str) -> None:
    """Limits that pynisher does not accept raise when the plugin is made."""
    with pytest.raises(ValueError, match=says):
        PynisherPlugin(**{"walltime_limit": 1, **options})


def test_limits_of_pynisher_are_shown() -> None:
    """Displays show what is limited, and nothing if there are no limits."""
    assert PynisherPlugin(walltime_limit=1, memory_limit=(2, "GB")).status() == "memory (2, 'GB') · wall time 1"
    assert PynisherPlugin().status() == ""
    assert PynisherPlugin.supports("wall_time")


@pytest.mark.parametrize(
    ("limit", "shown"), [("1 h", "3600"), (timedelta(minutes=1), "60"), (1.5, "(1.5, 's')"), ((2, "m"), "(2, 'm')")]
)
def test_pynisher_takes_durations_as_everything_does(limit: Any, shown: str) -> None:
    """Strings and timedeltas are accepted besides pynisher's own pairs."""
    assert PynisherPlugin(walltime_limit=limit).status() == f"wall time {shown}"
    with pytest.raises(ValueError, match=r"cputime_limit='1 parsec': must be finite and above 0"):
        PynisherPlugin(cputime_limit="1 parsec")
