"""Every plugin that must satisfy the contract, alone and paired with each other one. Add new plugins here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from amltk.scheduling import CallFolder, Comm, Limiter, Limits, Memo, Resources, Retry
from amltk.scheduling.plugins import (
    EmissionsTrackerPlugin,
    MLflowPlugin,
    PynisherPlugin,
    ThreadPoolCTLPlugin,
    WandbPlugin,
    WarningFilter,
)
from amltk.scheduling.plugins.trackers.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from amltk.scheduling import Plugin, Task
    from amltk.scheduling.executors import Capabilities


@dataclass(frozen=True)
class Entry:
    """A plugin as the tests use it.

    Attributes:
        name: Shown as the parameter of the tests.
        make: Creates it, given a folder for its files; limits and the like are too wide for any call to reach.
        check: Checks after the run that it did its work, given the task and what `make` was given.
        impossible: Whether the plugin rejects an executor with these capabilities with a ValueError.
        takes_a_process: It runs calls in a separate process if the executor is in this one.
        wraps: It wraps the function and so runs in the worker; the others run in the driver only.
    """

    name: str
    make: Callable[[Path], Plugin]
    check: Callable[[Task[..., Any], Path], None] = lambda _task, _folder: None
    impossible: Callable[[Capabilities], bool] = lambda _: False
    takes_a_process: bool = False
    wraps: bool = False

    def __str__(self) -> str:
        return self.name


def check_comm(task: Task[..., Any], _: Path) -> None:
    counts = task.event_counts
    assert counts[Comm.OPEN] == counts[Comm.CLOSE]
    assert counts[Comm.MESSAGE] >= 3  # those that were not cancelled


def check_retry(task: Task[..., Any], _: Path) -> None:
    assert task.event_counts[Retry.RETRY] >= 1
    assert task.event_counts[Retry.GAVE_UP] == task.event_counts[task.EXCEPTION]


def check_queue(task: Task[..., Any], _: Path) -> None:
    assert task.event_counts[Limiter.CONCURRENT_LIMIT_REACHED] > 0


def check_emissions(_: Task[..., Any], folder: Path) -> None:
    assert (
        len((folder / "emissions.csv").read_text().splitlines()) > 1
    )  # a header, and a line for each call that was computed


def check_written(task: Task[..., Any], _: Path) -> None:
    ended = task.event_counts[task.DONE] + task.event_counts[task.CANCELLED]
    assert {plugin.status() for plugin in task.plugins if isinstance(plugin, Tracker)} == {f"{ended} written"}


def check_memo(task: Task[..., Any], _: Path) -> None:
    assert any(isinstance(plugin, Memo) and plugin.n_shared + plugin.n_hits == 1 for plugin in task.plugins)


def check_call_folder(_: Task[..., Any], folder: Path) -> None:
    assert any((folder / "calls").iterdir())


def check_resources(task: Task[..., Any], _: Path) -> None:
    pools = task.scheduler.pools
    pools.collect()
    assert task.event_counts[task.WAITING] > 0
    assert not any(pool.used for pool in pools.named.values())


THERE_IS = {"gpu": ["0"], "licence": 2}
"""The scheduler's resources that `Resources` makes calls wait for."""

PLUGINS = (
    Entry("limiter", lambda _: Limiter(max_calls=1000)),
    Entry("queue", lambda _: Limiter(max_concurrent=2, on_limit="queue"), check_queue),
    Entry("retry", lambda _: Retry(attempts=2, lost_workers=0, wait=0), check_retry),
    Entry("comm", lambda _: Comm.Plugin(), check_comm, wraps=True),
    Entry(
        "limits",
        lambda _: Limits(wall_time="1 h", cpu_time="1 h", memory="100 GB"),
        impossible=lambda can: can.in_process and not can.in_loop,
        takes_a_process=True,
        wraps=True,
    ),
    Entry("threadpoolctl", lambda _: ThreadPoolCTLPlugin(max_threads=1), wraps=True),
    Entry("warning-filter", lambda _: WarningFilter("error", category=UserWarning), wraps=True),
    Entry(
        "emissions",
        lambda folder: EmissionsTrackerPlugin(
            output_dir=str(folder), country_iso_code="DEU", log_level="error", force_cpu_power=10, gpu_ids=[]
        ),
        check_emissions,
        wraps=True,
    ),
    Entry(
        "pynisher",
        lambda _: PynisherPlugin(walltime_limit=3600, context="forkserver"),
        takes_a_process=True,
        wraps=True,
    ),
    Entry("mlflow", lambda folder: MLflowPlugin("contract", tracking_uri=(folder / "mlflow").as_uri()), check_written),
    Entry("wandb", lambda folder: WandbPlugin(project="contract", dir=folder, mode="offline"), check_written),
    Entry("memo", lambda folder: Memo(folder / "memo"), check_memo),
    Entry("call-folder", lambda folder: CallFolder(folder, capture=True), check_call_folder, wraps=True),
    Entry("resources", lambda _: Resources(gpu=1, licence=1), check_resources),
)


def cannot_talk(entries: tuple[Entry, ...], can: Capabilities) -> bool:
    """Whether a call's comm would have to leave the only thread."""
    return can.in_loop and any(e.name == "comm" for e in entries) and any(e.takes_a_process for e in entries)


ALONE = [(entry,) for entry in PLUGINS]
BESIDE_RESOURCES = {"queue", "retry", "comm", "limits", "memo"}
"""Plugins that affect when a call starts, its attempts, where it is computed, or when it is killed."""


def _makes_sense(pair: tuple[Entry, Entry]) -> bool:
    names = {entry.name for entry in pair}
    return names != {"comm", "memo"} and ("resources" not in names or bool(names & BESIDE_RESOURCES))


PAIRS = [pair for pair in combinations(PLUGINS, 2) if _makes_sense(pair)]

MEMBERS = ("processes", "threads", "sequential", "dask-client")
"""The executors that plugins are tested on: one of each kind, since plugins use only what a kind has in common."""


def combinations_on(member: str) -> list[tuple[Entry, ...]]:
    """The plugins to test on this executor: each one alone, and the pairs for which the executor matters.

    In the driver, a pair behaves the same on every executor, so one is enough: the pool of processes, where workers are
    lost as well. Two plugins that wrap the function nest where it is computed: in a worker process, in a thread or in
    the loop. A worker of Dask unpickles the same nested functions as a worker of the pool.
    """
    pairs = {
        "processes": PAIRS,
        "threads": [pair for pair in PAIRS if all(entry.wraps for entry in pair)],
        "sequential": [pair for pair in PAIRS if all(entry.wraps for entry in pair)],
    }
    return [*ALONE, *pairs.get(member, [])]
