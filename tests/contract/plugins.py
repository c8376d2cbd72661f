"""Every plugin that is held to the contract, alone and beside each other one. A new plugin is one more entry here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from amltk.scheduling import Comm, Limiter, Limits, Retry
from amltk.scheduling.plugins import ThreadPoolCTLPlugin, WarningFilter
from amltk.scheduling.plugins.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from amltk.scheduling import Plugin, Task
    from amltk.scheduling.executors import Capabilities
    from amltk.scheduling.plugins.record import CallRecord


@dataclass(frozen=True)
class Entry:
    """A plugin as the tests use it.

    Attributes:
        name: Shown as the parameter of the tests.
        make: Makes it, given a folder for whatever it writes; limits and the like are so wide that no call meets them.
        check: Looks, after the run, whether it has done its work; given the task and what `make` was given.
        impossible: Whether the plugin refuses an executor with these capabilities, by a ValueError.
        takes_a_process: It has calls computed in a process of their own where the executor is in this one.
    """

    name: str
    make: Callable[[Path], Plugin]
    check: Callable[[Task[..., Any], Path], None] = lambda _task, _folder: None
    impossible: Callable[[Capabilities], bool] = lambda _: False
    takes_a_process: bool = False

    def __str__(self) -> str:
        return self.name


def check_comm(task: Task[..., Any], _: Path) -> None:
    counts = task.event_counts
    assert counts[Comm.OPEN] == counts[Comm.CLOSE]
    assert counts[Comm.MESSAGE] >= 3  # what was not cancelled


def check_retry(task: Task[..., Any], _: Path) -> None:
    assert task.event_counts[Retry.RETRY] == 1
    assert task.event_counts[Retry.GAVE_UP] == 1 + task.scheduler.executor_kind.capabilities.isolates_crashes


def check_queue(task: Task[..., Any], _: Path) -> None:
    assert task.event_counts[Limiter.CONCURRENT_LIMIT_REACHED] > 0


class Journal(Tracker):
    """Writes a line for each call."""

    name = "journal"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "journal"

    def write(self, record: CallRecord) -> None:
        with self.path.open("a") as file:
            file.write(f"{record.parameters['act']}: {record.outcome}\n")


def check_journal(task: Task[..., Any], folder: Path) -> None:
    lines = ["cancel: cancelled", "raise: exception", "return: result", "return: result"]
    lines += ["die: exception"] * task.scheduler.executor_kind.capabilities.isolates_crashes
    assert sorted((folder / "journal").read_text().splitlines()) == sorted(lines)


PLUGINS = (
    Entry("limiter", lambda _: Limiter(max_calls=1000)),
    Entry("queue", lambda _: Limiter(max_concurrent=2, on_limit="queue"), check_queue),
    Entry("retry", lambda _: Retry(attempts=2, lost_workers=0, wait=0), check_retry),
    Entry("comm", lambda _: Comm.Plugin(), check_comm),
    Entry(
        "limits",
        lambda _: Limits(wall_time="1 h", cpu_time="1 h", memory="100 GB"),
        impossible=lambda can: can.in_process and not can.in_loop,
        takes_a_process=True,
    ),
    Entry("warnings", lambda _: WarningFilter("error", category=FutureWarning)),
    Entry("threads", lambda _: ThreadPoolCTLPlugin(max_threads=1)),
    Entry("tracker", Journal, check_journal),
)


def cannot_talk(entries: tuple[Entry, ...], can: Capabilities) -> bool:
    """Whether the comm of a call would have to leave the only thread that there is."""
    return can.in_loop and any(e.name == "comm" for e in entries) and any(e.takes_a_process for e in entries)


ALONE = [(entry,) for entry in PLUGINS]
PAIRS = list(combinations(PLUGINS, 2))
