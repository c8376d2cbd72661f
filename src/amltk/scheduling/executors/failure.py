"""An exception on its way from a worker: it may be impossible to pickle there, or to unpickle here."""

from __future__ import annotations

import pickle
import traceback
from typing import TYPE_CHECKING, NamedTuple

from amltk._notes import add_note, safe_repr
from amltk.exceptions import RemoteError, RemoteTraceback

if TYPE_CHECKING:
    from collections.abc import Callable


class Failure(NamedTuple):
    """An exception as it travels."""

    name: str
    text: str
    traceback: str
    pickled: bytes | None
    problem: str
    """Why there is no pickle."""


def describe(error: BaseException, dump: Callable[[BaseException], bytes]) -> Failure:
    """Make an exception ready for travel, in the worker. The frame that has caught it is left out of its traceback."""
    pickled, problem = None, ""
    try:
        pickled = dump(error)
    except BaseException as unpicklable:  # noqa: BLE001 - what cannot be pickled is described
        problem = f"it cannot be pickled: {safe_repr(unpicklable)}"
    try:
        text = str(error)
    except Exception as strange:  # noqa: BLE001 - of the user's own __str__
        text = f"<its __str__ raised {safe_repr(strange)}>"
    below = error.__traceback__.tb_next if error.__traceback__ is not None else None
    lines = traceback.format_exception(type(error), error, below)
    return Failure(f"{type(error).__module__}.{type(error).__qualname__}", text, "".join(lines), pickled, problem)


def note_result(error: BaseException, result: object) -> None:
    """Note, in the worker, that an exception comes from pickling what the function has returned."""
    add_note(error, f"this was raised when the result, a {type(result).__name__}, was pickled for the way back")


def stand_in(failure: Failure, problem: str = "") -> BaseException:
    """What describes an exception that is not here itself, with the worker's traceback as its cause."""
    error = RemoteError(f"{failure.name}: {failure.text}" + (f" ({problem})" if problem else ""))
    error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def restore(failure: Failure, note: str) -> BaseException:
    """The exception that the function has raised, with the worker's traceback as its cause; or its stand-in."""
    error: BaseException | None = None
    problem = failure.problem
    if failure.pickled is not None:
        try:
            error = pickle.loads(failure.pickled)
        except BaseException as unpicklable:  # noqa: BLE001 - of the user's own class; described instead
            problem = f"it cannot be unpickled here: {safe_repr(unpicklable)}"
    if not isinstance(error, BaseException):
        return stand_in(failure, problem)
    error.__cause__ = RemoteTraceback(failure.traceback)
    add_note(error, note)
    return error
