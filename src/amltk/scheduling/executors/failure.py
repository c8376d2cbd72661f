"""What a worker tells of an exception: itself, as far as it can travel, and the traceback that it had there."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, NamedTuple

from amltk._notes import add_note
from amltk.exceptions import RemoteTraceback
from amltk.scheduling.executors import exception_parts
from amltk.scheduling.executors.exception_parts import Part, put_together, set_cause, take_apart

if TYPE_CHECKING:
    from amltk.scheduling.executors.exception_parts import Dump


class Failure(NamedTuple):
    """An exception as it travels.

    Attributes:
        traceback: What Python would print of it in the worker.
        parts: It, and the exceptions that it refers to.
    """

    traceback: str
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """Its class, with the module."""
        return self.parts[0].name

    @property
    def text(self) -> str:
        """Its message."""
        return self.parts[0].text


def describe(error: BaseException, dump: Dump) -> Failure:
    """Make an exception ready for travel, in the worker. The frame that has caught it is left out of its traceback."""
    below = error.__traceback__.tb_next if error.__traceback__ is not None else None
    lines = traceback.format_exception(type(error), error, below)
    return Failure("".join(lines), take_apart(error, dump))


def note_result(error: BaseException, result: object) -> None:
    """Note, in the worker, that an exception comes from pickling what the function has returned."""
    add_note(error, f"this was raised when the result, a {type(result).__name__}, was pickled for the way back")


def stand_in(failure: Failure) -> BaseException:
    """What describes an exception that is not to be here itself, with the worker's traceback as its cause."""
    error = exception_parts.stand_in(failure.parts[0])
    error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def restore(failure: Failure, note: str) -> BaseException:
    """The exception that the function has raised, or what describes it.

    The worker's traceback is its cause; where it has one of its own, the cause of the last one in the chain.
    """
    error = put_together(failure.parts)
    last, seen = error, {id(error)}
    while last.__cause__ is not None and id(last.__cause__) not in seen:
        last = last.__cause__
        seen.add(id(last))
    if last.__cause__ is None:  # else the chain is a circle, which has no end
        set_cause(last, RemoteTraceback(failure.traceback))
    add_note(error, note)
    return error
