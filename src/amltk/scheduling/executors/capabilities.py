"""What an executor can do, how it is terminated, and how its calls outlive their program."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from concurrent.futures import Future as Work
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path

Terminator = Callable[[Executor], None]
"""Ends an executor without waiting for its calls; may block, since it is called on a separate thread."""


@dataclass(frozen=True)
class Capabilities:
    """What an executor can do; the contract tests check each claim, in both directions."""

    kills_running: bool
    """Running calls can be ended without waiting for them."""
    isolates_crashes: bool
    """A lost worker costs only the call that it was running."""
    remote: bool
    """Calls may run on another machine."""
    in_loop: bool = False
    """Calls run on the thread of the run's loop, one at a time."""
    in_process: bool = False
    """Work runs in this process, and a crash is this process's own."""
    shares_objects: bool = False
    """Arguments and results are the very objects, and not copies."""
    closures: bool = False
    """Functions that no other process could import, such as lambdas and closures, can be computed."""
    cancels_running: bool = False
    """Cancelling the future of a running call ends that call, and nothing else."""
    crash_ends_program: bool = False
    """A call that takes its process down takes this program down too."""
    tells_running: bool = True
    """`running()` of a future is true from when a worker begins the call, or shortly before."""
    limits_calls: bool = False
    """It has `submit_limited`, which ends calls that exceed their limits."""
    tells_execution: bool = True
    """`execution_info` of a future reports the process that computed the call, and its times."""
    lists_running: bool = False
    """It lists the running calls, however many are waiting: it has `running_calls`, like `ProcessPool`."""
    names_losses: bool = True
    """A call whose worker is killed fails with `BrokenExecutor`, `WorkerLostError` or a subclass."""
    in_order: bool = False
    """Calls begin in order of submission."""
    binds_workers: bool = False
    """A worker has its GPUs for its whole life: it has `submit_bound` and `when_left`, like `ProcessPool`."""
    places_calls: bool = False
    """Workers declare what they have, and a call goes to one that has what it asks for: it is a `PlacingExecutor`."""
    holds_calls: bool = False
    """Calls wait in the executor, not here, for what workers have."""
    writes_logs: bool = False
    """Its workers write logs into a folder: it has `put_logs`, like `JobQueueExecutor`."""
    driven_by_loop: bool = False
    """It lets the loop of a run handle its traffic: it has `attach` and `detach`, like `ProcessPool`."""
    workers_come_later: bool = False
    """Workers may come long after the first call: it has `when_up`, which tells when the first one is up."""
    adopts_calls: bool = False
    """Calls go on when this program dies, and a later one finds them again: it is an `AdoptingExecutor`."""


Identify = Callable[[Work[Any]], "Identity | None"]
"""Says what the call behind an executor's future is recognised by; None if its end was handled."""


class Identity(NamedTuple):
    """What a call is recognised by, in this program and in later ones.

    Attributes:
        name: Its name, which can be that of a file: the same in each session.
        what: What it computes, for a comparison.
        is_same: Whether something that was kept as `what` is the same call.
    """

    name: str
    what: bytes
    is_same: Callable[[bytes], bool]


class AdoptingExecutor(Protocol):
    """An executor whose calls go on when this program dies, and that finds them again: see `Capabilities`.

    In a run with a journal it begins no call before that is recorded, so that a later program asks for it again.
    """

    def attach_journal(
        self, folder: Path, identify: Identify, ended_among: Callable[[Iterable[str]], set[str]]
    ) -> None:
        """Let calls be found again, until `detach_journal`.

        Args:
            folder: Where what is needed for that is kept.
            identify: What a call is recognised by.
            ended_among: Which of the calls with these names have ended for good. Asked at the first `note_recorded`.
        """
        ...

    def note_recorded(self) -> None:
        """Everything that has happened is recorded: calls may begin, and outcomes need not be kept any more."""
        ...

    def has_call(self, identity: Identity) -> bool:
        """Whether an earlier program has begun this call, so that it goes on or has ended."""
        ...

    def leave_calls(self) -> None:
        """Let calls go on while the run ends; what they come to is for the next program."""
        ...

    def detach_journal(self) -> None:
        """The run is over."""
        ...
