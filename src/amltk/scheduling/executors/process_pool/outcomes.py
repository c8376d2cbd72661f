"""What a future is told of a call that has failed."""

from __future__ import annotations

import pickle
import signal
from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING, Any

from amltk._notes import add_note
from amltk.exceptions import TaskLimitError, WorkerLostError
from amltk.scheduling.events import callback_name
from amltk.scheduling.executors.failure import restore
from amltk.scheduling.executors.process_pool.protocol import Frame, Kind
from amltk.scheduling.executors.process_pool.starters import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from amltk.scheduling.executors.process_pool.future import PoolFuture
    from amltk.scheduling.executors.process_pool.traffic import Outcome


def tell(outcomes: Iterable[Outcome]) -> None:
    """Give futures their outcomes. This calls users' code: their callbacks, and what unpickles their objects.

    Raises:
        BaseException: The first one that got through a future, such as a callback's `SystemExit`; all are told before.
    """
    torn: BaseException | None = None
    for call, frame, why in outcomes:
        try:
            result, error = (None, why) if frame is None else _read(frame, call)
            call.release()
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


def _read(frame: Frame, call: PoolFuture) -> tuple[Any, BaseException | None]:
    if frame.kind == Kind.EXCEPTION:
        return None, restore(pickle.loads(frame.payload), f"raised in worker {call.pid} by a call of {_name(call)}")
    try:
        return pickle.loads(frame.payload, buffers=frame.buffers), None
    except BaseException as error:  # noqa: BLE001 - it is the call's outcome
        add_note(error, "this was raised when the result was unpickled, in the process that has the pool")
        return None, error


def _name(call: PoolFuture) -> str:
    return "a function" if call.fn is None else callback_name(call.fn)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of those for real-time use only the first and the last one have names
        return f"signal {number}"


def lost(call: PoolFuture, pid: int, code: int, reason: BaseException | None) -> BaseException:
    """Why a call was lost with its worker."""
    if isinstance(reason, TaskLimitError):
        reason.pid = pid
        return reason
    if reason is not None:
        how = f"was killed, because {reason}"
    elif code == UNKNOWN:
        how = "has ended, together with the process that had started it"
    elif code < 0:
        how = f"was ended by {_signal_name(-code)}"
    else:
        how = f"ended with exit code {code}"
    error = WorkerLostError(f"worker {pid} {how}, while it computed {_name(call)}; only this call is lost")
    error.pid, error.exit_code = pid, None if code == UNKNOWN else code
    return error
