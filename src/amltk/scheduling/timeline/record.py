"""The record of one attempt to compute a call."""

from __future__ import annotations

import reprlib
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk._notes import safe_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTCOMES = ("succeeded", "failed", "cancelled", "retried", "running", "pending")
"""How an attempt can end. An attempt that was retried has failed, and its call was computed again."""

MAX_TEXT_LENGTH = 200
"""How many characters are kept of the arguments, and of an error."""

_ELSEWHERE = 40
"""How many characters are kept of one argument value."""

_MAX_ITEMS = 20
"""How many positional and how many keyword arguments are looked at; more would not fit."""


class Record(NamedTuple):
    """One attempt to compute a call.

    Attributes:
        function: The name of the function.
        arguments: Its arguments, shortened.
        outcome: One of `OUTCOMES`.
        error: The exception that it raised, shortened; empty if none.
        attempt: The number of the attempt, from 1; only the plugin `Retry` makes more than one.
        submitted: When it was submitted to the executor, in seconds since the epoch, on this program's clock.
        began: When it began; None if it has not begun.
        ended: When it ended; None if it has not ended.
        host: The machine that computed it; None if unknown.
        pid: The process that computed it; None if unknown.
        thread: The thread that computed it; None if unknown, or if workers have only one.
        by_worker: Whether the worker reported the times. Otherwise they are what this program saw: from the submission
            to the end.
        call: The number of the call, by which records refer to one another; attempts of one call have the same.
        needs: The numbers of the calls whose results were among its arguments.
        devices: What it was granted of resources that are given as lists, and the GPUs that its worker has lent to it:
            their names with their ids, such as `gpu 0`.
        cpu: How many seconds of CPU time its worker process has used for it; None if unknown.
        memory: The most memory that the worker process had meanwhile, in bytes; None if unknown.
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
    call: int = 0
    needs: tuple[int, ...] = ()
    devices: tuple[str, ...] = ()
    cpu: float | None = None
    memory: int | None = None


class _Brief(reprlib.Repr):
    """Shows a value without looking at more of it than is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = _ELSEWHERE
        self.maxlevel = 3


_brief = _Brief().repr
_MAX_PLAIN_INT = 10**18
_PLAIN = frozenset({float, bool, type(None)})


def arguments_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The arguments of a call as written in code, shortened; fast, however large they are."""
    parts = [_show(value) for value in args[:_MAX_ITEMS]]
    if len(args) > _MAX_ITEMS:
        parts.append("...")
    parts += [f"{name}={_show(value)}" for name, value in islice(kwargs.items(), _MAX_ITEMS)]
    return shortened(", ".join(parts))


def error_of(error: BaseException | None) -> str:
    """The type and message of an exception, shortened."""
    return "" if error is None else shortened(f"{type(error).__name__}: {safe_str(error)}")


def safe_str(error: BaseException) -> str:
    """The message of a user's exception, even if creating it raises."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the user's own __str__ failed; its repr is used instead
        return safe_repr(error)


def shortened(text: str) -> str:
    """The text on one line, cut to `MAX_TEXT_LENGTH` characters."""
    if len(text) > MAX_TEXT_LENGTH:
        text = text[: MAX_TEXT_LENGTH - 3] + "..."
    return " ".join(text.split()) if "\n" in text else text


def _show(value: Any) -> str:
    if type(value) in _PLAIN or (type(value) is int and -_MAX_PLAIN_INT < value < _MAX_PLAIN_INT):
        return repr(value)
    try:
        return _brief(value)
    except Exception:  # noqa: BLE001 - a class with the name of a built-in one; shown as any other
        return safe_repr(value)[:_ELSEWHERE]
