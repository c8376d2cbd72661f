"""The job of one call, as far as this program knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from amltk.scheduling.executors.capabilities import Identity
    from amltk.scheduling.executors.remote.executor import RemoteFuture
    from amltk.scheduling.executors.remote.slurm_jobs.call_files import CallFiles


class Job:
    """The job of one call.

    Args:
        call: The call.
        payload: Its pickle.
        options: The options of `sbatch` for this call only.
        folder: The folder in which the folder of the call is.
        name: The name of that.

    Attributes:
        call: The call.
        payload: As given; empty once it is in the folder.
        options: As given.
        folder: As given.
        name: As given.
        identity: What the call is recognised by in later programs; None if it is not.
        files: Its folder; None before it has one.
        number: Slurm's number of it; empty if it is not known to be submitted.
        may_exist: Whether it may have been submitted although it has no number.
        may_be_two: Whether there may be two jobs for the call, since the first was not known to be submitted.
        state: Its state, as far as Slurm has said.
        reason: The reason for that.
        has_begun: Whether it computes the call.
        nodes: The nodes on which it runs, as far as Slurm has said.
        looked_at: When its folder was looked at last, on the monotonic clock.
        lacks_since: Since when its outcome is due and missing, on the monotonic clock; None if it is not due.
    """

    def __init__(self, call: RemoteFuture, payload: bytes, options: Mapping[str, Any], folder: Path, name: str) -> None:
        self.call: RemoteFuture = call
        self.payload: bytes = payload
        self.options: Mapping[str, Any] = options
        self.folder: Path = folder
        self.name: str = name
        self.identity: Identity | None = None
        self.files: CallFiles | None = None
        self.number: str = ""
        self.may_exist: bool = False
        self.may_be_two: bool = False
        self.state: str = ""
        self.reason: str = ""
        self.has_begun: bool = False
        self.nodes: str = ""
        self.looked_at: float = 0.0
        self.lacks_since: float | None = None
