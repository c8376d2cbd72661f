"""What a future is told of a call that has failed."""

from __future__ import annotations

import pickle
import signal
from typing import TYPE_CHECKING

from amltk.exceptions import RemoteError, RemoteTraceback, TaskLimitError, WorkerLostError
from amltk.scheduling.events import callback_name
from amltk.scheduling.executors.process_pool.starters import UNKNOWN

if TYPE_CHECKING:
    from amltk.scheduling.executors.process_pool.future import PoolFuture
    from amltk.scheduling.executors.process_pool.protocol import Frame
    from amltk.scheduling.executors.process_pool.worker import Failure


def remote_error(failure: Failure, problem: str = "") -> BaseException:
    """What describes an exception that is not here itself, with the worker's traceback as its cause."""
    error = RemoteError(f"{failure.name}: {failure.text}" + (f" ({problem})" if problem else ""))
    error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def read_exception(frame: Frame, call: PoolFuture, pid: int) -> BaseException:
    """The exception that the function has raised, with the worker's traceback as its cause."""
    failure: Failure = pickle.loads(frame.payload)
    error: BaseException | None = None
    problem = failure.problem
    if failure.pickled is not None:
        try:
            error = pickle.loads(failure.pickled)
        except BaseException as unpicklable:  # noqa: BLE001 - of the user's own class; described instead
            problem = f"it cannot be unpickled here: {unpicklable!r}"
    if not isinstance(error, BaseException):
        return remote_error(failure, problem)
    error.__cause__ = RemoteTraceback(failure.traceback)
    error.add_note(f"raised in worker {pid} by a call of {_name(call)}")
    return error


def _name(call: PoolFuture) -> str:
    return "a function" if call.fn is None else callback_name(call.fn)


def lost(call: PoolFuture, pid: int, code: int, reason: BaseException | None) -> BaseException:
    """Why a call was lost with its worker."""
    if isinstance(reason, TaskLimitError):
        reason.pid = pid
        return reason
    if reason is not None:
        how = f"was killed, because {reason}"
    elif code == UNKNOWN:
        how = "has ended, together with the fork server that had started it"
    elif code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
    else:
        how = f"ended with exit code {code}"
    error = WorkerLostError(f"worker {pid} {how}, while it computed {_name(call)}; only this call is lost")
    error.pid, error.exit_code = pid, None if code == UNKNOWN else code
    return error
