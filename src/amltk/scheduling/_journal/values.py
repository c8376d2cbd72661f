"""What is recorded as a pickle: outcomes and arguments."""

from __future__ import annotations

import pickle
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from amltk._checks import as_real
from amltk._labels import call_label, value_in_short
from amltk.exceptions import JournalError, RemoteTraceback, WorkerLostError
from amltk.journal.format import encode_head
from amltk.journal.kinds import Kind
from amltk.scheduling._journal.heads import outcome_fields, outcome_head
from amltk.scheduling.call import Outcome
from amltk.scheduling.executors._transfer.exception_parts import put_together, take_apart, text_of
from amltk.scheduling.executors.execution_info import execution_info
from amltk.scheduling.executors.remote.plain import dumps_by_name, pickle_part_by_name
from amltk.scheduling.future import devices_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future as Work

    from amltk.scheduling.executors._transfer.exception_parts import Part
    from amltk.scheduling.future import Future

_RESULT = int(Kind.RESULT)

MOST_DIGITS = 1 << 10
"""A number that a call has returned is recorded in the head up to this size, in bits."""

MOST_NUMBERS = 32
"""How many numbers of a dict that a call has returned are recorded in the head."""

LONGEST_KEY = 100
"""Numbers with longer keys, in characters, are not recorded there."""


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


def load_outcome(value: bytes | None, future: Future[Any]) -> Any:
    """Load the recorded outcome of a call: the counterpart of `dump` and `dump_error`; raises as `load` does."""
    try:
        return pickle.loads(value or b"")
    except Exception:  # noqa: BLE001 - of any object
        return load(value, lambda: f"the outcome of {future.label}")  # raises the error that says so


class _Raised:
    """Pickled in place of an exception, as which it arrives: with its cause, its notes and its fields."""

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return put_together, (self.parts,)


def dump_error(error: BaseException) -> bytes:
    """Pickle an exception; what cannot be pickled of it is left out, and a note says so."""
    return pickle.dumps(_Raised(take_apart(error, pickle_part_by_name)), 5)


def outcome_of(work: Work[Any]) -> Outcome:
    """How the executor's future has ended, as the run takes it, whatever its methods raise."""
    try:
        error = work.exception()
        return Outcome(None if error is not None else work.result(), error, False)
    except CancelledError:
        return Outcome(None, None, True)
    except BaseException as failure:  # noqa: BLE001 - the executor cannot give an outcome: this is it
        return Outcome(None, failure, False)


def encoded(outcome: Outcome, work: Work[Any], future: Future[Any]) -> tuple[int, bytes, bytes | None]:
    """What to record about the end of a call: the kind, the head and the value.

    Args:
        outcome: How it has ended.
        work: The executor's future.
        future: The future of the submission.

    Raises:
        JournalError: The result cannot be pickled.
    """
    result, error, cancelled = outcome
    if cancelled or error is not None:
        kind, fields = told_of(outcome, work, future)
        return int(kind), encode_head(fields), None if error is None else dump_error(error)
    number: float | None = result if type(result) is float else _number(result)
    if (number is not None or result is None) and (future.call is None or not devices_of(future)):
        head = outcome_head(execution_info(work), number)
    else:
        fields = outcome_fields(execution_info(work), devices_of(future))
        head = encode_head(fields | (_description(result) if number is None else {"number": number}))
    value: bytes | None = getattr(work, "result_pickle", None)  # as it came from the worker
    return _RESULT, head, _pickle_of(result, future) if value is None else value


def told_of(outcome: Outcome, work: Work[Any] | None, future: Future[Any]) -> tuple[Kind, dict[str, Any]]:
    """The kind of the record of the end of a call, and the fields of its head.

    Args:
        outcome: How it has ended.
        work: The executor's future; None if it never had one.
        future: The future of the submission.
    """
    result, error, cancelled = outcome
    fields = outcome_fields(execution_info(work), devices_of(future))
    if cancelled:
        return Kind.CANCELLED, fields
    if error is not None:
        kind = Kind.LOST if isinstance(error, WorkerLostError) else Kind.EXCEPTION
        return kind, fields | failure_fields(error)
    number = _number(result)
    if number is not None or result is None:
        return Kind.RESULT, fields if number is None else fields | {"number": number}
    return Kind.RESULT, fields | _description(result)


def _description(result: Any) -> dict[str, Any]:
    """The fields that describe a result that is not a number, for people who look at the journal."""
    described: dict[str, Any] = {"returned": value_in_short(result)}
    if type(result) is dict and (numbers := _numbers(result)):
        described["numbers"] = numbers
    return described


def _numbers(result: dict[Any, Any]) -> dict[str, float]:
    """The numbers of a dict, by their keys: the first ones, if there are many."""
    found: dict[str, float] = {}
    for key, value in result.items():
        if type(key) is str and len(key) <= LONGEST_KEY and (number := _number(value)) is not None:
            found[key] = number
            if len(found) == MOST_NUMBERS:
                break
    return found


def _pickle_of(result: Any, future: Future[Any]) -> bytes:
    try:
        return pickle.dumps(result, 5)
    except Exception:  # noqa: BLE001 - of any object
        return dump(result, lambda: f"what {future.label} returned")


def _number(result: Any) -> float | None:
    kind = type(result)
    if result is None or kind is bool or (kind is int and result.bit_length() > MOST_DIGITS):
        return None
    return float(result) if kind is int else as_real(result)


def failure_fields(error: BaseException) -> dict[str, Any]:
    """The fields in the head of a failure that describe the exception."""
    fields = {"type": type(error).__name__, "message": text_of(error)}
    if isinstance(cause := error.__cause__, RemoteTraceback):
        fields["traceback"] = cause.tb
    return fields


def dump_arguments(task: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Pickle the arguments of a call.

    Raises:
        JournalError: They cannot be pickled.
    """
    try:
        return pickle.dumps((args, kwargs), 5)
    except Exception:  # noqa: BLE001 - of any object
        return dump((args, kwargs), lambda: f"what is submitted, {call_label(task, args, kwargs)},")
