"""How a worker reports an exception: the exception, as far as it can be sent, and its traceback there."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, NamedTuple

from amltk._notes import add_note, field, safe_repr
from amltk.exceptions import RemoteError, RemoteTraceback
from amltk.scheduling.executors._transfer import exception_parts
from amltk.scheduling.executors._transfer.exception_parts import Part, put_together, set_cause, take_apart, text_of

if TYPE_CHECKING:
    from types import TracebackType

    from amltk.scheduling.executors._transfer.exception_parts import Dump


class Failure(NamedTuple):
    """An exception, ready to send.

    Attributes:
        traceback: What Python would print for it in the worker.
        parts: The exception, and those that it refers to.
    """

    traceback: str
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """The name of its class, with the module."""
        return self.parts[0].name

    @property
    def text(self) -> str:
        """Its message."""
        return self.parts[0].text


def describe(error: BaseException, dump: Dump) -> Failure:
    """Prepare an exception for sending, in the worker. Its traceback omits the frame that caught it."""
    try:
        return _describe(error, dump)
    except MemoryError:
        raise
    except BaseException as problem:  # noqa: BLE001 - the exception's own methods failed; no worker ends with that
        return _describe(RemoteError(f"{type(error).__name__}, which cannot be sent: {safe_repr(problem)}"), dump)


def _describe(error: BaseException, dump: Dump) -> Failure:
    raised = field(error, "__traceback__")
    below = raised.tb_next if raised is not None else None
    return Failure("".join(_format(error, below)), take_apart(error, dump))


def _format(error: BaseException, frames: TracebackType | None) -> list[str]:
    try:
        return traceback.format_exception(type(error), error, frames)
    except MemoryError:
        raise
    except BaseException as problem:  # noqa: BLE001 - the exception's own methods failed: without what it refers to
        last = f"{type(error).__name__}: {text_of(error)}\n"
        more = f"(what else belongs to it cannot be shown: {safe_repr(problem)})\n"
        return ["Traceback (most recent call last):\n", *traceback.format_tb(frames), last, more]


def note_result(error: BaseException, result: object) -> None:
    """Note, in the worker, that an exception was raised while pickling the function's result."""
    add_note(error, f"raised while pickling the result, of type {type(result).__name__}, to send it back")


def stand_in(failure: Failure) -> BaseException:
    """A replacement for an exception that is not restored, with the worker's traceback as its cause."""
    error = exception_parts.stand_in(failure.parts[0])
    error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def restore(failure: Failure, note: str) -> BaseException:
    """The exception that the function raised, or its replacement.

    The worker's traceback becomes its cause, or the cause of the last exception in its chain of causes.
    """
    error = put_together(failure.parts)
    last, seen = error, {id(error)}
    while (cause := field(last, "__cause__")) is not None and id(cause) not in seen:
        last = cause
        seen.add(id(last))
    if cause is None:  # otherwise the chain is a cycle, which has no end
        set_cause(last, RemoteTraceback(failure.traceback))
    add_note(error, note)
    return error
