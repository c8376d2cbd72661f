"""The outcomes of calls, and how futures receive them."""

from __future__ import annotations

import pickle
import signal
from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk._notes import add_note
from amltk.exceptions import TaskLimitError, WorkerLostError
from amltk.scheduling.events import callback_name
from amltk.scheduling.executors._transfer.failure import restore
from amltk.scheduling.executors.process_pool._state.protocol import Frame, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from amltk.scheduling.executors.process_pool.future import PoolFuture


class Unpickled(NamedTuple):
    """What has come from a worker, unpickled: the result of a call, or its exception."""

    result: Any
    error: BaseException | None


if TYPE_CHECKING:
    Outcome: TypeAlias = tuple[PoolFuture, Frame | None, BaseException | Unpickled | None]
    """How a call ended: with a frame from a worker, which may be unpickled already, or else with an error."""

UNKNOWN_EXIT_CODE = -signal.NSIG
"""Stands for the exit code of a worker whose parent was killed with it, or does not report it."""


def tell(outcomes: Iterable[Outcome]) -> None:
    """Set the outcomes of futures. This runs users' code: their callbacks, and the unpickling of their objects.

    Raises:
        BaseException: The first one to escape from a future, such as `SystemExit` of a callback; raised at the end.
    """
    torn: BaseException | None = None
    for call, frame, why in outcomes:
        try:
            if why is None and frame is not None:
                result, error = unpickle(frame, call)
            else:
                result, error = why if isinstance(why, Unpickled) else (None, why)
            call.release(frame)
            if error is None:
                call.set_result(result)
            else:
                call.set_exception(error)
        except BaseException as interruption:  # noqa: BLE001 - raised below
            is_late = call.unwanted and isinstance(interruption, InvalidStateError)
            if torn is None and not is_late:
                torn = interruption
    if torn is not None:
        raise torn


def unpickle(frame: Frame, call: PoolFuture) -> tuple[Any, BaseException | None]:
    """The result or the exception that has come from a worker. This runs users' code."""
    what = "result"
    try:
        if frame.kind != Kind.EXCEPTION:
            return pickle.loads(frame.payload, buffers=frame.buffers), None
        what = "exception"
        return None, restore(pickle.loads(frame.payload), f"raised in worker {call.pid} by a call of {_name(call)}")
    except BaseException as error:  # noqa: BLE001 - this is the call's outcome
        add_note(error, f"raised while unpickling the {what}, in the process of the pool")
        return None, error


def _name(call: PoolFuture) -> str:
    return "a function" if call.fn is None else callback_name(call.fn)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # only the first and last real-time signals have names
        return f"signal {number}"


def lost(call: PoolFuture, pid: int, code: int, reason: BaseException | None) -> BaseException:
    """The error of a call that was lost with its worker."""
    if isinstance(reason, TaskLimitError):
        reason.pid = pid
        return reason
    if reason is not None:
        how = f"was killed, because {reason}"
    elif code == UNKNOWN_EXIT_CODE:
        how = "ended, together with the process that had started it or while that did not answer"
    elif code < 0:
        how = f"was ended by {_signal_name(-code)}"
    else:
        how = f"ended with exit code {code}"
    error = WorkerLostError(f"worker {pid} {how}, while it was computing {_name(call)}; only this call is lost")
    error.pid, error.exit_code = pid, None if code == UNKNOWN_EXIT_CODE else code
    return error
