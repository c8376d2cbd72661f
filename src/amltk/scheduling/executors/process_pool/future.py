"""The future that `ProcessPool.submit` returns."""

from __future__ import annotations

import pickle
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from amltk._compat import CANCELLED, CANCELLED_AND_NOTIFIED
from amltk._process import clock
from amltk._shield import shielded
from amltk.scheduling.executors.execution_info import ExecutionInfo, this_host
from amltk.scheduling.executors.light_future import LightFuture
from amltk.scheduling.executors.process_pool._state.protocol import InSegment, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.executors.process_pool._state.dispatcher import WorkerSlot
    from amltk.scheduling.executors.process_pool._state.protocol import Frame
    from amltk.scheduling.executors.process_pool.binding import Binding
    from amltk.scheduling.executors.process_pool.limits import CallLimits

T = TypeVar("T")

_init = LightFuture.__init__  # looked up once, since `super()` takes longer than the call
_RESULT = int(Kind.RESULT)  # members are slow to reach


class Owner(Protocol):
    """The engine, as a future sees it."""

    def cancel(self, call: PoolFuture) -> bool:
        """Give up a call; False if it has ended, or is given up already."""
        ...

    def has_begun(self, call: PoolFuture) -> bool:
        """Whether a worker has begun a call."""
        ...

    def is_copy(self) -> bool:
        """Whether this process was forked from the one that has the workers."""
        ...

    def owner(self) -> int:
        """The pid of that process."""
        ...


class PoolFuture(LightFuture[Any]):
    """The outcome of one call in a `ProcessPool`.

    Unlike other futures it can be cancelled while it runs, which ends its worker, and `running()` is true only after
    the worker has begun.

    Attributes:
        fn: The function; None once it has ended.
        limits: What it may use, or None.
        binding: The devices that its worker must have; None if that does not matter.
        left_behind: The worker that was computing it when it was cancelled, and is ended; None if there is none.
        unwanted: It was marked as cancelled: an outcome that still comes is dropped.
        pid: The worker that ran it; None before that is known.
        begun_at: When the worker began, in seconds on the monotonic clock. Known at the end, and for calls that are not
            very short as soon as they begin; None before. If a call was expected to be short and is not, it is the
            moment at which that was noticed until the call ends.
        ended_at: When the worker ended it; None if it has not.
        usage: The seconds of CPU time that it has used, and the most bytes of memory that its worker had meanwhile, 0
            if those are not known; None if it was not measured.
    """

    binding: Binding | None = None
    left_behind: WorkerSlot | None = None
    unwanted: bool = False
    usage: tuple[float, int] | None = None

    def __init__(
        self,
        owner: Owner,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: CallLimits | None = None,
    ) -> None:
        _init(self)
        self._owner = owner
        self.fn: Callable[..., Any] | None = fn
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.limits: CallLimits | None = limits
        self.payload: Any = None  # the pickled call, a `CallPayload`; `Any`, since that is a layer above
        self.key: int = 0  # its number, once it is in the dispatcher
        self.slot: WorkerSlot | None = None  # the worker that it was sent to
        self.dropped: bool = False  # it has ended or was cancelled, and must not begin
        self.pid: int | None = None
        self.begun_at: float | None = None
        self.ended_at: float | None = None

    @shielded
    def cancel(self) -> bool:
        """Cancel it. If it is waiting, it never begins; if it is running, its worker is ended and replaced.

        Returns:
            False if it had already ended.
        """
        if not self._owner.cancel(self):
            return self.cancelled()
        self.tell_cancelled()
        return True

    def mark_cancelled(self) -> None:
        """Be cancelled, without notifying waiters yet: `tell_cancelled` follows. Takes no lock."""
        self.unwanted = True
        self._state = CANCELLED

    def tell_cancelled(self) -> None:
        """Be cancelled, and notify waiters."""
        with self._condition:
            self._state = CANCELLED_AND_NOTIFIED
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        self._invoke_callbacks()
        self.release()

    def check_waiting(self) -> None:
        """See `LightFuture.check_waiting`."""
        if self._owner.is_copy():
            raise RuntimeError(
                f"only process {self._owner.owner()}, which forked this one, receives the outcome of this future: "
                "ask for it there, or submit the call to a ProcessPool created in this process"
            )

    def running(self) -> bool:
        """Whether a worker is running it now."""
        return self.slot is not None and self._owner.has_begun(self)

    @property
    def began(self) -> float | None:
        """When the worker began, in seconds since the epoch; None as for `begun_at`."""
        return None if self.begun_at is None else clock.time_of(self.begun_at)

    @property
    def ended(self) -> float | None:
        """When the worker ended it, in seconds since the epoch; None if it has not."""
        return None if self.ended_at is None else clock.time_of(self.ended_at)

    @property
    def execution_info(self) -> ExecutionInfo:
        """Where and when it was computed, as far as known."""
        begun, ended = self.begun_at, self.ended_at
        info = ExecutionInfo(
            this_host(),
            self.pid,
            None,
            None if begun is None else clock.time_of(begun),
            None if ended is None else clock.time_of(ended),
        )
        if self.usage is not None:
            info.cpu, memory = self.usage
            info.memory = memory or None
        return info

    def release(self, frame: Frame | None = None) -> None:  # noqa: ARG002 - for subclasses that keep it
        """Release what only the call needed; `frame` is what has come from the worker."""
        self.fn = self.payload = None
        self.args = ()
        self.kwargs = {}


class KeepingFuture(PoolFuture):
    """Keeps the pickle of its result as it came from the worker, for what records it."""

    _frame: Frame | None = None

    def release(self, frame: Frame | None = None) -> None:
        """As in `PoolFuture`."""
        super().release()
        self._frame = frame

    @property
    def result_pickle(self) -> bytes | None:
        """The pickle, which any process that has the same definitions can load.

        None before the end, if the worker had to make one that only this process can load, or if a part of it is in
        shared memory, which is reused.
        """
        frame = self._frame
        if frame is None or frame.kind != _RESULT or frame.definition or isinstance(frame.buffers, InSegment):
            return None
        return pickle.dumps(_Joined(frame), 5) if frame.buffers else bytes(frame.payload)


class _Joined:
    """Pickled in place of a result whose buffers came out of band: both are put together when it is loaded."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def __reduce__(self) -> Any:
        buffers = list(map(pickle.PickleBuffer, self._frame.buffers))
        return partial(pickle.loads, buffers=buffers), (bytes(self._frame.payload),)
