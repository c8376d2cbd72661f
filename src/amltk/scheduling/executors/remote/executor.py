"""The common base of executors over another library's workers: the set of pending calls, and how calls are sent.

A call is sent as one pickle, made by cloudpickle, so that the library never sees the user's function or arguments. So
functions of `__main__` and closures work everywhere, no argument name has a meaning to the library, and equal calls are
never merged. Exceptions of the user's function are never raised in the library: they are sent back as outcomes.
"""

from __future__ import annotations

import pickle
import threading
from abc import ABC, abstractmethod
from concurrent.futures import Executor, Future, InvalidStateError
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

from amltk._compat import CANCELLED, PENDING, RUNNING, is_owned
from amltk._notes import add_note
from amltk._process import clock
from amltk.exceptions import WorkerLostError
from amltk.scheduling._admission.amounts import amount_text
from amltk.scheduling.events import callback_name
from amltk.scheduling.executors._transfer.failure import Failure, describe, note_result, restore
from amltk.scheduling.executors._transfer.unpicklable import explain_call, explain_result
from amltk.scheduling.executors.execution_info import ExecutionInfo, lent_devices, told_since
from amltk.scheduling.executors.light_future import LightFuture
from amltk.scheduling.executors.remote.pickling import PLAIN, dump_call, dumps, make_pickler, pickle_part, resolving
from amltk.scheduling.executors.remote_result import Left, RemoteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from amltk.scheduling._admission.cluster import WorkerKind
    from amltk.scheduling.executors.process_pool.binding import Binding

    Lend = Callable[[int], AbstractContextManager[tuple[tuple[str, ...], Binding | None]]]

P = ParamSpec("P")
T = TypeVar("T")

NOTHING: Mapping[str, int] = MappingProxyType({})


def compute(payload: bytes) -> bytes:
    """Compute the call in a parcel, in a worker. Never raises: the function's exception is part of the outcome."""
    return compute_leaving(payload, (), leaves=False)[0]


def compute_leaving(
    payload: bytes, values: Sequence[bytes | None], *, leaves: bool = True
) -> tuple[bytes, bytes | None]:
    """The same, where results may stay here.

    Args:
        payload: The pickled call.
        values: The pickles of the results that stand for references among the arguments; None for one that is lost.
        leaves: Whether the library can leave a result here.

    Returns:
        The outcome, and the pickle of the result if it stays; else None.
    """
    began = clock.now()
    lent_devices.set(())
    try:
        if values:
            with resolving(values):
                fn, args, kwargs = pickle.loads(payload)
        else:
            fn, args, kwargs = pickle.loads(payload)
        result = fn(*args, **kwargs)
        del fn, args, kwargs
    except BaseException as error:  # noqa: BLE001 - it is sent back
        return _pickle_failure(error, told_since(began)), None
    where = told_since(began)
    if type(result) in PLAIN:
        return pickle.dumps((result, None, where), protocol=5), None
    stays = leaves and isinstance(result, RemoteResult)
    try:
        if not stays:
            return dumps((result, None, where)), None
        result = result.fetch()
        left = dumps(result)
        return dumps((Left(len(left)), None, where)), left
    except BaseException as raised:  # noqa: BLE001 - it is sent back
        unsent = explain_result(raised, result, make_pickler)
        note_result(unsent, result)
        return _pickle_failure(unsent, where), None


def unsent(error: BaseException) -> bytes:
    """The outcome of a call in place of one that could not be sent for this reason."""
    return _pickle_failure(error, told_since(clock.now()))


def _pickle_failure(error: BaseException, where: tuple[Any, ...]) -> bytes:
    return pickle.dumps((None, describe(error, pickle_part), where))


class RemoteFuture(LightFuture[Any]):
    """The outcome of one call.

    Attributes:
        name: The name of the function, for messages.
        handle: The library's handle of the call; None before it has one.
        references: The handles of the results that it needs and that stay on workers.
        wanted: How many units it takes of what workers declare, by name.
        needs_time: How many seconds it needs; 0.0 if that is not known.
        place: A description of the worker that has begun it; empty if unknown.
        execution_info: Where and when it was computed; None until known.
    """

    def __init__(self, owner: RemoteExecutor, name: str) -> None:
        super().__init__()
        self._owner = owner
        self.name: str = name
        self.handle: Any = None
        self.references: list[Any] = []
        self.wanted: Mapping[str, int] = NOTHING
        self.needs_time: float = 0.0
        self.place: str = ""
        self.execution_info: ExecutionInfo | None = None
        self._submitted = clock.now()

    def tell_whereabouts(self, told: ExecutionInfo) -> None:
        """Take a worker's word, on its clock, for where and when it was computed."""
        self.execution_info = told.within(self._submitted, clock.now())

    def begin(self) -> None:
        """Note that a worker has begun it."""
        with self._condition:
            if self._state == PENDING:
                self._state = RUNNING

    def running(self) -> bool:
        """Whether a worker has begun it, if that is known: see the executor's capabilities in the registry."""
        return super().running() or (not self.done() and self._owner.has_begun(self))

    def cancel(self) -> bool:
        """Cancel it, if the executor can do that: see the executor's capabilities in the registry.

        Returns:
            False if it continues, or has ended.
        """
        if self.done() or not self._owner.withdraw(self):
            return self.cancelled()
        with self._condition:
            if self._state == RUNNING:
                self._state = PENDING  # its computation was ended, so it can be cancelled after all
        if not super().cancel():
            return False  # its outcome arrived meanwhile
        with self._condition:
            if self._state == CANCELLED:  # otherwise another thread was first
                self.set_running_or_notify_cancel()
        self._owner.end(self)
        return True

    def conclude(self, result: Any, error: BaseException | None) -> None:
        """Set its outcome, unless it has one or was cancelled."""
        try:
            if error is None:
                self.set_result(result)
            else:
                self.set_exception(error)
        except InvalidStateError:
            return


class RemoteExecutor(Executor, ABC):
    """An executor over a library with its own workers. A subclass defines how calls reach them."""

    def __init__(self) -> None:
        self._pending: set[RemoteFuture] = set()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # with the lock itself each call takes less
        self._shut_down = False
        self._waits = True
        self._closer: threading.Thread | None = None
        self._broken: str | bool = False

    # ------------------------------------------------------------------ for subclasses

    @abstractmethod
    def _send(self, call: RemoteFuture, payload: bytes) -> None:
        """Send a call to the library, and have `end` called with its outcome."""

    @abstractmethod
    def withdraw(self, call: RemoteFuture) -> bool:
        """Withdraw a call from the library, or end its computation; False if neither is possible."""

    def has_begun(self, call: RemoteFuture) -> bool:  # noqa: ARG002 - for subclasses whose libraries must be asked
        """Whether the library says that a worker is computing it."""
        return False

    @abstractmethod
    def _kill(self) -> bool:
        """End running calls, if possible; returns whether it was."""

    @abstractmethod
    def _close(self, *, wait: bool) -> None:
        """Release all resources. May block, but waits for running calls only with `wait`."""

    # ------------------------------------------------------------------ the interface of executors

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Submit a call. If something cannot be pickled, the future fails with a `TypeError` that names it.

        Raises:
            RuntimeError: The executor was shut down.
        """
        return self._take(RemoteFuture(self, callback_name(fn)), fn, args, kwargs)

    def _take(
        self, call: RemoteFuture, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> RemoteFuture:
        with self._lock:
            if self._shut_down:
                raise RuntimeError(f"this {type(self).__name__} was shut down; create a new one")
            self._pending.add(call)
        try:
            try:
                payload = dump_call(fn, args, kwargs, call.references)
            except Exception as raised:  # noqa: BLE001 - this is the outcome of the call
                error = explain_call(raised, fn, args, kwargs, make_pickler)
                add_note(error, f"raised while pickling a call of {call.name} to send it to a worker")
                self.end(call, error=error)
                return call
            self._send(call, payload)
        except BaseException:
            self.end(call)
            raise
        if call.cancelled():  # by another thread, before the library got it
            self.withdraw(call)
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls, and release all resources once the remaining calls are done.

        Args:
            wait: Return only after that.
            cancel_futures: Cancel calls that have not begun.
        """
        with self._changed:
            self._shut_down = True
            calls = list(self._pending) if cancel_futures else []
            if self._closer is None:
                self._closer = threading.Thread(target=self._close_when_done, name="amltk-executor-close")
                self._closer.start()
        for call in calls:
            if not call.running():
                call.cancel()
        if wait and not is_owned(self._changed):  # else the garbage collector asks, in the middle of something
            self._closer.join()

    def kill_workers(self) -> None:
        """End the executor and its running calls, as far as possible, and wait until that is done."""
        with self._changed:
            self._shut_down = True
            calls = list(self._pending)
        killed = self._kill()
        for call in calls:
            if not call.running():
                call.cancel()
            elif killed:
                self.end(call, error=self.lost(call, "its worker was killed"))
        with self._changed:
            self._pending.clear()  # calls that cannot be killed keep running unnoticed
            self._waits = False
            self._changed.notify_all()
        self.shutdown()

    # ------------------------------------------------------------------ outcomes of calls

    def end(
        self, call: RemoteFuture, outcome: bytes | None = None, error: BaseException | None = None, left: Any = None
    ) -> None:
        """Set the outcome of a call, or just remove it from the pending ones. Only the first outcome counts.

        Args:
            call: The call.
            outcome: What its worker has sent.
            error: Why there is no such outcome.
            left: The library's handle of the result, if that has stayed on its worker.
        """
        call.references = []  # so that the library frees them
        if outcome is not None and not call.done():
            result, error = _read(outcome, call)
            if isinstance(result, Left):
                result = RemoteResult.elsewhere(result.size, left, partial(self._fetch_left, call.name, left))
            call.conclude(result, error)
        elif error is not None:
            call.conclude(None, error)
        with self._lock:
            self._pending.discard(call)
            if not self._pending:
                self._changed.notify_all()

    def _fetch_left(self, name: str, left: Any) -> Any:
        """Fetch a result that has stayed on its worker."""
        try:
            value = self.bring(left)
        except Exception as error:
            raise WorkerLostError(f"the result of {name} has stayed on its worker, and is lost: {error}") from error
        if value is None:
            raise WorkerLostError(f"the result of {name} has stayed on its worker, and is lost with it")
        return pickle.loads(value)

    def bring(self, left: Any) -> bytes | None:
        """The pickle of a result that has stayed on its worker; None if it is lost."""
        raise NotImplementedError(f"results do not stay on the workers of {self!r}, which cannot send {left!r}")

    def lost(self, call: RemoteFuture, how: str, kind: type[WorkerLostError] = WorkerLostError) -> WorkerLostError:
        """The error of a call that was lost with its worker."""
        at = f" on {call.place}" if call.place else ""
        return kind(f"{how}, while it was computing {call.name}{at}; only this call is lost, and it is not repeated")

    def _close_when_done(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._pending)
        self._close(wait=self._waits)


def _read(outcome: bytes, call: RemoteFuture) -> tuple[Any, BaseException | None]:
    try:
        result, failure, where = pickle.loads(outcome)
    except BaseException as error:  # noqa: BLE001 - this is the call's outcome
        add_note(error, "raised while unpickling the result, in the process of the executor")
        return None, error
    call.tell_whereabouts(ExecutionInfo(*where))
    if isinstance(failure, Failure):
        at = call.place or "a worker"
        return None, restore(failure, f"raised on {at} by a call of {call.name}")
    return result, None


class PlacingExecutor(RemoteExecutor):
    """An executor whose workers declare what they have, and that sends each call to one that has what it asks for.

    Attributes:
        place: What its workers belong to, for messages, such as `the Dask cluster`.
        remedy: How to give its workers more, for messages.
        is_open: Whether the cluster may start workers of other kinds for calls that wait.
        on_change: Called when what they declare has changed, on any thread.
    """

    place: str
    remedy: str
    is_open: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.on_change: Callable[[], object] = _ignore

    @abstractmethod
    def declared(self) -> tuple[WorkerKind, ...]:
        """What workers have, by their kinds; the same tuple until that changes."""

    def present(self) -> tuple[WorkerKind, ...]:
        """The same for the workers that are there now, where others are expected."""
        return self.declared()

    def driver_address(self) -> str | None:
        """The IP address of this machine by which workers reach it; None if that is not known. May take a moment."""
        return None

    lend: ClassVar[Lend]
    """Lends GPUs to a call, in the worker: their ids, and the binding of a process that may use no others.

    There is no binding where the worker itself is such a process.
    """

    def submit_placed(
        self, wanted: Mapping[str, int], needs_time: float, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Submit a call to a worker that has these units free of what it declares, and as many seconds."""
        call = RemoteFuture(self, callback_name(fn))
        call.wanted, call.needs_time = wanted, needs_time
        return self._take(call, fn, args, kwargs)

    def why_waiting(self, call: RemoteFuture) -> str | None:
        """Why a call has not begun, in words; None if nothing particular is known. May be called from any thread."""
        kinds = self.present()
        for name, units in call.wanted.items():
            if not any(kind.units.get(name, 0) >= units for kind in kinds):
                return f"waits for a worker of {self.place} that has {amount_text(units)} of {name}; now there is none"
        return None


def _ignore() -> None:
    """The callback while no run needs to be notified."""
