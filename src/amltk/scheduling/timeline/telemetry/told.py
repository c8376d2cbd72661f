"""What is told of calls and runs to a receiver: taken on the loop's thread, sent by another one."""

from __future__ import annotations

import traceback
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from amltk.scheduling.timeline.record import safe_str

if TYPE_CHECKING:
    from amltk.scheduling.timeline.record import Record

MOST_CHARACTERS = 16_384
"""How many characters are told of the message of an exception, and the last ones of its traceback."""


class Failure(NamedTuple):
    """The exception of a call, under the names that OpenTelemetry has for its parts."""

    type: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Take it, while the exception is as the callbacks see it."""
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        told = "".join(traceback.format_exception(error))
        return cls(name, safe_str(error)[:MOST_CHARACTERS], told[-MOST_CHARACTERS:])


class EndedCall(NamedTuple):
    """A call that has ended.

    Attributes:
        last: Its last attempt.
        earlier: The attempts before it that were retried.
        failure: What it raised; None for other endings.
    """

    last: Record
    earlier: tuple[Record, ...]
    failure: Failure | None


class EndOfRun(NamedTuple):
    """How a run has ended.

    Attributes:
        at: When, in seconds since the epoch.
        code: The name of the exit state's code.
        reason: Why, in words; may be empty.
    """

    at: float
    code: str
    reason: str


class Ids(NamedTuple):
    """The numbers by which the spans of a run refer to one another: always the same ones for the same seed.

    Attributes:
        seed: What no other experiment has.
        joins: Whether the spans may become part of a trace that the program has begun; else they have one of their own.
    """

    seed: bytes
    joins: bool

    @property
    def trace(self) -> int:
        """The number of the trace."""
        return self._number("trace", 16)

    def call(self, number: int) -> int:
        """The number of the span of a call."""
        return self._number(f"call {number}", 8)

    def _number(self, of: str, size: int) -> int:
        digest = blake2b(of.encode(), key=self.seed, digest_size=size).digest()
        return int.from_bytes(digest, "big") or 1  # 0 is not valid
