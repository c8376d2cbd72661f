"""What is recorded as a pickle: outcomes and arguments; and whether arguments are those that were recorded."""

from __future__ import annotations

import pickle
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk._checks import as_real
from amltk._labels import value_in_short
from amltk.exceptions import JournalError, RemoteTraceback, WorkerLostError
from amltk.journal.kinds import Kind, Outcome
from amltk.scheduling.executors._transfer.exception_parts import put_together, take_apart, text_of
from amltk.scheduling.executors.execution_info import execution_info
from amltk.scheduling.executors.remote.plain import dumps_by_name, pickle_part_by_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future as Work

    from amltk.scheduling.executors._transfer.exception_parts import Part
    from amltk.scheduling.future import Future

MOST_DIGITS = 1 << 10
"""A number that a call has returned is told in the head up to this size, in bits."""

MOST_NUMBERS = 32
"""How many numbers of a dict that a call has returned are told in the head."""

LONGEST_KEY = 100
"""Those with longer keys, in characters, are not."""


def dump(value: Any, what: Callable[[], str]) -> bytes:
    """Pickle a value; `what` says what it is, for the error.

    Raises:
        JournalError: It cannot be pickled.
    """
    try:
        return dumps_by_name(value)
    except Exception as error:
        raise JournalError(
            f"{what()} cannot be recorded in the journal, since it cannot be pickled: {error}. Return and submit"
            " what can be, such as numbers, texts, arrays and containers of them"
        ) from error


def load(value: bytes | None, what: Callable[[], str]) -> Any:
    """The counterpart of `dump`.

    Raises:
        JournalError: Something that the pickle names is not there any more.
    """
    try:
        return pickle.loads(value or b"")
    except Exception as error:
        raise JournalError(
            f"{what()} cannot be read from the journal: {type(error).__name__}: {error}. What its pickle names must be"
            " where it was when it was recorded"
        ) from error


class _Raised:
    """Pickled in place of an exception, as which it arrives: with its cause, its notes and its fields."""

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return put_together, (self.parts,)


def dump_error(error: BaseException) -> bytes:
    """Pickle an exception; what cannot be pickled of it is left out, and a note says so."""
    return pickle.dumps(_Raised(take_apart(error, pickle_part_by_name)), 5)


class Ending(NamedTuple):
    """How a call has ended: with a result, unless there is an error or it was cancelled."""

    result: Any
    error: BaseException | None
    cancelled: bool


def ending_of(work: Work[Any]) -> Ending:
    """How the executor's future has ended, as the run takes it, whatever its methods raise."""
    try:
        error = work.exception()
        return Ending(None if error is not None else work.result(), error, False)
    except CancelledError:
        return Ending(None, None, True)
    except BaseException as failure:  # noqa: BLE001 - the executor cannot give an outcome: this is it
        return Ending(None, failure, False)


def outcome_of(ending: Ending, work: Work[Any], future: Future[Any]) -> tuple[Kind, Outcome, bytes | None]:
    """What to record of the end of a call: the kind, the head and the value.

    Args:
        ending: How it has ended.
        work: The executor's future.
        future: The future of the submission.

    Raises:
        JournalError: The result cannot be pickled.
    """
    kind, head = told_of(ending, work)
    if ending.cancelled:
        return kind, head, None
    if ending.error is not None:
        return kind, head, dump_error(ending.error)
    return kind, head, dump(ending.result, lambda: f"what {future.label} returned")


def told_of(ending: Ending, work: Work[Any] | None) -> tuple[Kind, Outcome]:
    """The kind and the head of the same.

    Args:
        ending: How it has ended.
        work: The executor's future; None if it never had one.
    """
    head: Outcome = {}
    info = execution_info(work)
    if info is not None:
        if info.began is not None:
            head["began"] = info.began
            if info.ended is not None:
                head["duration"] = info.ended - info.began
        if info.host is not None:
            head["host"] = info.host
        if info.pid is not None:
            head["pid"] = info.pid
    result, error, cancelled = ending
    if cancelled:
        return Kind.CANCELLED, head
    if error is not None:
        return _failure(error, head), head
    if result is not None:
        _describe(result, head)
    return Kind.RESULT, head


def _describe(result: Any, head: Outcome) -> None:
    """Say what a call has returned, for those who look at the journal."""
    if (number := _number(result)) is not None:
        head["number"] = number
        return
    head["returned"] = value_in_short(result)
    if type(result) is dict and (numbers := _numbers(result)):
        head["numbers"] = numbers


def _numbers(result: dict[Any, Any]) -> dict[str, float]:
    """The numbers of a dict, by their keys: the first ones, if there are many."""
    found: dict[str, float] = {}
    for key, value in result.items():
        if type(key) is str and len(key) <= LONGEST_KEY and (number := _number(value)) is not None:
            found[key] = number
            if len(found) == MOST_NUMBERS:
                break
    return found


def _number(result: Any) -> float | None:
    kind = type(result)
    if kind is float:
        return float(result)
    if result is None or kind is bool or (kind is int and result.bit_length() > MOST_DIGITS):
        return None
    return as_real(result)


def _failure(error: BaseException, head: Outcome) -> Kind:
    head["type"] = type(error).__name__
    head["message"] = text_of(error)
    cause = error.__cause__
    if isinstance(cause, RemoteTraceback):
        head["traceback"] = cause.tb
    return Kind.LOST if isinstance(error, WorkerLostError) else Kind.EXCEPTION


def are_same(recorded: Any, given: Any) -> bool:
    """Whether two values are equal, or have equal pickles; within containers, whether all of their items are."""
    if recorded is given:
        return True
    if type(recorded) is not type(given):
        return False
    if isinstance(recorded, dict):
        return list(recorded) == list(given) and all(are_same(recorded[key], given[key]) for key in recorded)
    if isinstance(recorded, list | tuple):
        return len(recorded) == len(given) and all(map(are_same, recorded, given))
    try:
        equal: Any = recorded == given
        if isinstance(equal, bool):
            return equal or _have_equal_pickles(recorded, given)
        return bool(equal.all()) and getattr(recorded, "shape", None) == getattr(given, "shape", None)
    except Exception:  # noqa: BLE001 - they cannot be compared
        return _have_equal_pickles(recorded, given)


def _have_equal_pickles(recorded: Any, given: Any) -> bool:
    try:
        return pickle.dumps(recorded, 5) == pickle.dumps(given, 5)
    except Exception:  # noqa: BLE001 - they have none
        return False
