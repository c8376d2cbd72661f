"""The bridges to libraries, with these libraries, around calls in real workers."""

from __future__ import annotations

import csv
import os
import signal
import sys
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.plugins import EmissionsTrackerPlugin, PynisherPlugin, ThreadPoolCTLPlugin, WarningFilter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from amltk.scheduling import Plugin

pytestmark = pytest.mark.integration


def outcomes_of(
    scheduler: Scheduler, function: Callable[..., Any], plugins: list[Plugin], *calls: tuple[Any, ...]
) -> list[Any]:
    """What has come of calls of a function, computed one after the other: results, and exceptions."""
    left = list(calls)
    outcomes: list[Any] = []
    task = scheduler.task(function, plugins=plugins)
    task.on_result(lambda _, result: outcomes.append(result))
    task.on_exception(lambda _, error: outcomes.append(error))

    @scheduler.on_start
    @task.on_done
    def launch(*_: Any) -> None:
        if left:
            task.submit(*left.pop(0))

    scheduler.run(on_exception="continue")
    return outcomes


# ------------------------------------------------------------------------------------------------------ threadpoolctl


def pools() -> list[int]:
    """How many threads each library has that numpy has loaded."""
    import numpy as np
    from threadpoolctl import threadpool_info

    assert np.ones(2).sum() == 2
    return [pool["num_threads"] for pool in threadpool_info()]


@pytest.mark.parametrize("make", [Scheduler.with_processes, Scheduler.with_threads], ids=["processes", "threads"])
def test_threads_are_limited(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a call is computed its libraries have one thread; afterwards they have as many as before."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    scheduler = make(1)  # what is submitted below is computed by one and the same worker
    limited = scheduler.task(pools, plugins=ThreadPoolCTLPlugin(max_threads=1))
    seen: list[list[int]] = []
    scheduler.on_start(lambda: scheduler.submit(pools))  # loads numpy
    scheduler.on_future_done(max_calls=1)(lambda _: limited.submit())
    limited.on_done(lambda _: scheduler.submit(pools))
    scheduler.on_future_result(lambda _, found: seen.append(found))
    scheduler.run()
    before, within, after = seen
    assert within == [1] * len(before)
    assert after == before


def test_an_api_that_is_none() -> None:
    """A misspelt API is an error when the plugin is made."""
    with pytest.raises(ValueError, match="user_api='blass': must be 'blas', 'openmp', or None"):
        ThreadPoolCTLPlugin(max_threads=1, user_api="blass")


# ----------------------------------------------------------------------------------------------------------- warnings


def warn_and_tell() -> list[str]:
    """The warnings that come through."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn("wanted", UserWarning, stacklevel=1)
        warnings.warn("unwanted", FutureWarning, stacklevel=1)
    return [str(warning.message) for warning in caught]


def test_warnings_are_filtered_in_workers() -> None:
    """Filters of plugins hold in the worker that computes the call; the first plugin's comes first."""
    plugins: list[Plugin] = [WarningFilter("ignore", category=FutureWarning), WarningFilter("always")]
    assert outcomes_of(Scheduler.with_processes(1), warn_and_tell, plugins, ()) == [["wanted"]]


# --------------------------------------------------------------------------------------------------------- codecarbon


def note_connections(path: str) -> None:
    """Add a line to a file whenever this process is about to reach for a network."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in {"socket.getaddrinfo", "socket.gethostbyname"} or (event == "socket.connect" and args[1] != path):
            with open(path, "a") as file:
                file.write(f"{event} {args}\n")

    sys.addaudithook(hook)


def compute(n: int) -> int:
    """Something to measure, or to fail at."""
    return sum(range(1_000_000)) // n


def test_emissions_are_measured_in_workers(tmp_path: Path) -> None:
    """Each call adds a line to codecarbon's file, a failing one as well; nothing is asked of a server."""
    connections = tmp_path / "connections"
    scheduler = Scheduler.with_processes(1, initializer=note_connections, initargs=(str(connections),))
    plugin = EmissionsTrackerPlugin(
        "tuning", country_iso_code="DEU", output_dir=str(tmp_path), log_level="critical", tracking_mode="process"
    )
    result, error = outcomes_of(scheduler, compute, [plugin], (1,), (0,))
    assert result == sum(range(1_000_000))
    assert isinstance(error, ZeroDivisionError)
    with (tmp_path / "emissions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["project_name"], row["country_iso_code"]) for row in rows] == [("tuning", "DEU")] * 2
    assert all(float(row["duration"]) > 0 and float(row["energy_consumed"]) > 0 for row in rows)
    assert not connections.exists(), connections.read_text()


def test_wrong_arguments_of_codecarbon() -> None:
    """An argument that codecarbon does not have is an error when the plugin is made; which tracker it is, is shown."""
    with pytest.raises(TypeError, match="outptu_dir"):
        EmissionsTrackerPlugin(country_iso_code="DEU", outptu_dir=".")
    assert EmissionsTrackerPlugin(country_iso_code="DEU").status() == "offline"
    assert EmissionsTrackerPlugin(project_name="tuning").status() == "online"


# ----------------------------------------------------------------------------------------------------------- pynisher


def play(act: str) -> Any:
    """Stay within limits, or do not."""
    if act == "sleep":
        time.sleep(60)
    if act == "compute":
        while True:
            pass
    if act == "allocate":
        return len(bytearray(1 << 34))
    if act == "raise":
        raise LookupError(act)
    return os.getppid(), str(signal.getsignal(signal.SIGTERM))


LIMITS = {
    "sleep": ({"walltime_limit": 1}, "WallTimeoutException", ["pynisher-timeout", "pynisher-walltime-limit"]),
    "compute": ({"cputime_limit": (1, "s")}, "CpuTimeoutException", ["pynisher-timeout", "pynisher-cputime-limit"]),
    "allocate": ({"memory_limit": (8, "GB")}, "MemoryLimitException", ["pynisher-memory-limit"]),
    "raise": ({"walltime_limit": (1, "h")}, "LookupError", []),
}


@pytest.mark.parametrize("act", LIMITS)
@pytest.mark.parametrize("where", ["processes", "sequential"])
def test_limits_of_pynisher(where: str, act: str) -> None:
    """A call that reaches a limit fails with pynisher's error, and the events of the limit come before its ending."""
    limits, error, events = LIMITS[act]
    scheduler = Scheduler.with_processes(1) if where == "processes" else Scheduler.with_sequential()
    task = scheduler.task(play, plugins=PynisherPlugin(context="fork", **limits))  # type: ignore[arg-type]
    told: list[str] = []
    for event in task.events:
        task.register(event, partial(lambda name, *_: told.append(name), event.name))
    scheduler.on_start(lambda: task.submit(act))
    errors: list[BaseException] = []
    task.on_exception(lambda _, error: errors.append(error))
    scheduler.run(on_exception="continue")
    assert [type(error).__name__ for error in errors] == [error]
    assert told == ["submitted", *events, "done", "exception"]
    assert not events or isinstance(errors[0], PynisherPlugin.PynisherException)


def test_pynisher_leaves_nothing_in_the_worker() -> None:
    """However many calls a worker has computed, it has as many open files as after the first."""
    scheduler = Scheduler.with_processes(1)
    limited = scheduler.task(play, plugins=PynisherPlugin(walltime_limit=60, context="fork"))
    counting = scheduler.task(open_files)
    counts: list[int] = []
    limited.on_done(lambda _: counting.submit())
    counting.on_result(lambda _, count: counts.append(count))

    @scheduler.on_start
    @counting.on_done(when=lambda: len(counts) < 5)
    def launch(*_: Any) -> None:
        limited.submit("return")

    scheduler.run()
    assert len(counts) > 4
    assert set(counts) == {counts[0]}


def open_files() -> int:
    """How many files this process has open."""
    return len(os.listdir("/dev/fd"))


def test_pynisher_computes_in_a_process_of_its_own() -> None:
    """Within the limits the result is the function's, computed in a child of the worker; without limits there is none."""
    scheduler = Scheduler.with_sequential()
    for plugin, parent in ((PynisherPlugin(walltime_limit=60, context="fork"), os.getpid()), (PynisherPlugin(), None)):
        ((found, handler),) = outcomes_of(scheduler, play, [plugin], ("return",))
        assert found == (parent or os.getppid())
        assert parent is None or handler == str(signal.SIG_DFL)  # so that pynisher need not wait to end it


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"walltime_limit": 0}, ValueError),
        ({"cputime_limit": (0.1, "s")}, ValueError),
        ({"walltime_limit": 1, "context": "spoon"}, ValueError),
    ],
)
def test_wrong_arguments_of_pynisher(options: dict[str, Any], error: type[Exception]) -> None:
    """What pynisher does not take is an error when the plugin is made."""
    with pytest.raises(error):
        PynisherPlugin(**options)


def test_names_of_pynisher() -> None:
    """The class tells what can be limited and has pynisher's errors; its contexts can be given as such."""
    import multiprocessing

    import pynisher

    assert PynisherPlugin.supports("wall_time")
    assert PynisherPlugin.TimeoutException is pynisher.TimeoutException
    plugin = PynisherPlugin(
        walltime_limit=(2, "h"), context=multiprocessing.get_context("spawn"), disable_trial_handling=True
    )
    assert plugin.context == "spawn"
    assert plugin.status() == "wall time (2, 'h')"
