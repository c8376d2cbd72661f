"""What is noted of one attempt to compute a call."""

from __future__ import annotations

import reprlib
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk._notes import safe_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTCOMES = ("succeeded", "failed", "cancelled", "retried", "running", "pending")
"""What can have become of an attempt. One that was retried has failed, and its call was computed again."""

LONGEST = 200
"""Characters that are kept of arguments and of an error, each."""

_ELSEWHERE = 40
"""Characters that are kept of one value within arguments."""

_MOST = 20
"""Arguments of each kind that are looked at; more would not fit."""


class Record(NamedTuple):
    """One attempt to compute a call.

    Attributes:
        function: The name of the function.
        arguments: What it was called with, shortened.
        outcome: One of `OUTCOMES`.
        error: What it has raised, shortened; empty if nothing.
        attempt: Which attempt it is, from 1 on; only the plugin `Retry` makes more than one.
        submitted: When the executor was given it, in seconds since the epoch, on this program's clock.
        began: When it began; None if it has not.
        ended: When it ended; None if it has not.
        host: The machine that computed it; None if that is not known.
        pid: The process that computed it; None if that is not known.
        thread: The thread that computed it; None if that is not known, or if workers have one only.
        by_worker: Whether the worker has told its times, and not only this program what it saw: from the submission to
            the end.
    """

    function: str
    arguments: str
    outcome: str
    error: str
    attempt: int
    submitted: float
    began: float | None
    ended: float | None
    host: str | None
    pid: int | None
    thread: str | None
    by_worker: bool


class _Brief(reprlib.Repr):
    """Looks at as much of a value as is shown, and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = _ELSEWHERE
        self.maxlevel = 3


_brief = _Brief().repr
_LARGE = 10**18
_PLAIN = frozenset({float, bool, type(None)})


def arguments_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The arguments of a call as one writes them, shortened; takes little time, however large they are."""
    parts = [_show(value) for value in args[:_MOST]]
    if len(args) > _MOST:
        parts.append("...")
    parts += [f"{name}={_show(value)}" for name, value in islice(kwargs.items(), _MOST)]
    return shortened(", ".join(parts))


def error_of(error: BaseException | None) -> str:
    """The type and message of an exception, shortened."""
    return "" if error is None else shortened(f"{type(error).__name__}: {safe_str(error)}")


def safe_str(error: BaseException) -> str:
    """The message of an exception of the user's, also where making it raises."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - of the user's own __str__; its repr is told in its place
        return safe_repr(error)


def shortened(text: str) -> str:
    """At most `LONGEST` characters of it, on one line."""
    if len(text) > LONGEST:
        text = text[: LONGEST - 3] + "..."
    return " ".join(text.split()) if "\n" in text else text


def _show(value: Any) -> str:
    if type(value) in _PLAIN or (type(value) is int and -_LARGE < value < _LARGE):
        return repr(value)
    try:
        return _brief(value)
    except Exception:  # noqa: BLE001 - of a class that bears the name of a built-in one; told as any other
        return safe_repr(value)[:_ELSEWHERE]
