"""How calls outlive their program: what they are recognised by, and what an executor does for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    Identify = Callable[[Future[Any]], "Identity | None"]
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

    def attach_journal(self, folder: Path, identify: Identify) -> None:
        """Let calls be found again, until `detach_journal`.

        Args:
            folder: Where what is needed for that is kept.
            identify: What a call is recognised by.
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
