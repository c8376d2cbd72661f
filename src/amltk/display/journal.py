"""The live display of a run known only by its journal: it is running in another process, or has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from amltk.display import wording
from amltk.display._screens.screens import screen_for
from amltk.display.panel import Frame
from amltk.display.progress import CallProgress, Failure, Progress, TaskProgress
from amltk.exceptions import JournalError
from amltk.journal.history.call import PENDING
from amltk.journal.live.follower import Follower
from amltk.scheduling.snapshot import Counts, PoolUse, Waits

if TYPE_CHECKING:
    import os

    from rich.console import Console

    from amltk.journal.live.status import Running
    from amltk.journal.live.tally import TaskTally

EVERY = 0.5
"""Seconds between two reads of the journal."""

MOST_CALLS = 16
"""How many running calls are looked up at most; the display has room for no more."""

MOST_FAILURES = 5


def watch(folder: str | os.PathLike[str], *, console: Console | None = None) -> None:
    """Show a run in this terminal until it ends; one that has ended is shown once.

    Args:
        folder: The folder of its journal.
        console: The console to show it on; None as in `LiveDisplay`.

    Raises:
        JournalError: There is no journal, or it cannot be read.
    """
    follower = Follower(folder)
    follower.finish()
    if follower.problem:
        raise JournalError(follower.problem)
    screen = screen_for(console)
    began = time.monotonic()
    screen.open()
    last: Frame | None = None
    try:
        while follower.owner is not None and not follower.problem:
            if screen.is_due(time.monotonic() - began):
                screen.draw(frame_of(follower))
            time.sleep(EVERY)
            follower.finish()
        last = frame_of(follower)
    except KeyboardInterrupt:
        last = frame_of(follower)
    finally:
        screen.close(last)
    if follower.problem:
        raise JournalError(follower.problem)


def frame_of(follower: Follower) -> Frame:
    """The frame that shows a run as it is now."""
    owner = follower.owner
    workers = follower.status.workers
    parts = [follower.folder.path.name]
    if owner is not None:
        parts.append(str(owner))
        if workers is not None:
            parts.append(f"{workers} {'worker' if workers == 1 else 'workers'}")
    return Frame(progress_of(follower), wording.printable(" · ".join(parts)), ())


def progress_of(follower: Follower) -> Progress:
    """The progress of a run according to its journal, in the form that the live display uses."""
    tally, status, now = follower.tally, follower.status, follower.now()
    waiting = status.waiting
    active = follower.owner is not None
    total = status.total if active else None
    # A run in progress reports what is running; otherwise nothing is.
    counts = _counts(tally.counts, len(status.running) + status.more if active and status.time is not None else None)
    left = counts.unended if total is None else total - counts.ended
    return Progress(
        state=_state(follower),
        active=active,
        elapsed=tally.alive(now),
        timeout=None
        if status.deadline is None or not active
        else tally.pace.alive + status.deadline - (tally.latest or now),
        rate=tally.pace.rate(now),
        counts=counts,
        total=total,
        to_go=tally.pace.to_go(now, left, is_total=total is not None) if active else None,
        tasks=tuple(_task(task, follower) for task in tally.tasks),
        calls=tuple(_calls(follower, now)) if active else (),
        failures=tuple(_failures(follower, now)),
        pools=tuple(wording.pool(PoolUse(use.name, use.used, use.total)) for use in status.pools) if active else (),
        waits=wording.waits(Waits(waiting.calls, waiting.pools, waiting.dependencies)) if active else "",
    )


def _state(follower: Follower) -> str:
    told = follower.tally.reasons
    if follower.state in {"finished", "suspended"} and told:
        return wording.printable(f"{follower.state}: {', '.join(told)}")
    return "interrupted: its process was killed" if follower.state == "interrupted" else follower.state


def _counts(counts: dict[str, int], running: int | None) -> Counts:
    unended = counts[PENDING]
    return Counts(
        unended,
        None if running is None else min(running, unended),
        counts["result"],
        counts["exception"] + counts["lost"],
        counts["cancelled"],
    )


def _task(task: TaskTally, follower: Follower) -> TaskProgress:
    told = follower.status
    names = [follower.tally.task_of(call.call) for call in told.running]
    known = follower.owner is not None and told.time is not None and not told.more
    return TaskProgress(task.name, _counts(task.counts, names.count(task.name) if known else None), ())


def _calls(follower: Follower, now: float) -> list[CallProgress]:
    return [
        CallProgress(_label(follower, call.call), _place(call), max(0.0, now - (call.began or now)))
        for call in follower.running()[:MOST_CALLS]
    ]


def _place(call: Running) -> str:
    return wording.place(call.worker, call.devices)


def _failures(follower: Follower, now: float) -> list[Failure]:
    elapsed = follower.tally.alive(now)
    found = []
    for failure in list(follower.tally.failures.last)[: -MOST_FAILURES - 1 : -1]:
        text = wording.printable(f"{failure.error}: {failure.message}" if failure.message else failure.error)
        found.append(Failure(_label(follower, failure.call), text, elapsed - max(0.0, now - failure.time)))
    return found


def _label(follower: Follower, call: int) -> str:
    record = follower.submission(call)
    arguments = "" if record is None else str(record.head.get("arguments", ""))
    return wording.printable(f"{follower.tally.task_of(call)}{arguments}")
