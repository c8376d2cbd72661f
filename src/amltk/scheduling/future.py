"""The future that `submit` returns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from amltk.scheduling.events import callback_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future as Work
    from contextvars import Context

    from amltk.scheduling.call import Call

    Observer = Callable[["Future[Any]", tuple[Any, ...], dict[str, Any]], object]
    """Is told of a call that the executor was given, with its arguments: of each attempt, before its events."""

R = TypeVar("R")


# Found once: `super()` is a tenth of what a submission costs.
_init = asyncio.Future.__init__
_set_result = asyncio.Future.set_result
_set_exception = asyncio.Future.set_exception


class Canceller(Protocol):
    """Who carries out the cancellation of a future: the run that it belongs to."""

    def cancel(self, future: Future[Any]) -> bool:
        """Cancel it; whether that was still possible."""
        ...

    def note_waiter(self, future: Future[Any]) -> None:
        """Note that somebody awaits it."""
        ...


class Future(asyncio.Future[R]):
    """The outcome of one submission: an `asyncio.Future` that can be awaited, cancelled and looked at.

    It ends right before the callbacks of its events are called, on the thread of the run's loop. Made by `submit`.

    Attributes:
        function: The function that was submitted.
        args: The arguments that it was submitted with, whatever plugins make of them.
        number: Its place in the order of the scheduler's submissions, over all runs, from 0 on; -1 if it was refused.
        task: The `Task` it was submitted through, or None.
        call: What the task's plugins make of it; None without plugins, and after the callbacks of its last event.
        work: The executor's own future; None until the executor has it, and after the callbacks of its last event.
    """

    __slots__ = ("_kwargs", "_run", "args", "call", "function", "number", "task", "work")

    def __init__(  # noqa: PLR0917 - by position, which takes less time
        self,
        run: Canceller,
        task: Any,
        function: Callable[..., R],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        call: Call | None = None,
    ) -> None:
        _init(self, loop=loop)
        self._run: Canceller | None = run  # None once it has ended: a future that is kept must not keep the run
        self.task: Any = task  # a Task, which is a layer above
        self.function: Callable[..., R] = function
        self.args: tuple[Any, ...] = args
        self._kwargs: dict[str, Any] | None = kwargs or None  # an empty dictionary takes as much memory as a small one
        self.number: int = -1  # the pending calls gives it one
        self.call: Call | None = call
        self.work: Work[R] | None = None

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments that it was submitted with, whatever plugins make of them."""
        return {} if self._kwargs is None else self._kwargs

    @property
    def label(self) -> str:
        """The call in short, for people: `train('mnist', lr=0.1, depth=3)`.

        One line of at most 100 characters, made anew each time; large values are told by their kind and size.
        """
        from amltk._labels import call_label  # few programs need it

        name = callback_name(self.function) if self.task is None else self.task.name
        return call_label(name, self.args, self.kwargs)

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002 - asyncio's interface
        """Cancel it: pending compute never starts; `@future-cancelled` follows.

        Compute that is running is ended where the executor can do that; elsewhere it runs on and its outcome is
        dropped. May be called from any thread; from another one than the loop's it takes effect soon after.

        Returns:
            False if it had ended before.
        """
        run = self._run  # read once: it may end on the loop's thread meanwhile
        return run is not None and not self.done() and run.cancel(self)

    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        """Have `fn` called with this future, through the loop, when it has ended; as `await` does."""
        run = self._run
        if run is not None:
            run.note_waiter(self)
        super().add_done_callback(fn, context=context)

    def result(self) -> R:
        """What was computed.

        Raises:
            asyncio.InvalidStateError: It has not ended.
            asyncio.CancelledError: It was cancelled.
            BaseException: What the function raised.
        """
        if not self.done():
            raise asyncio.InvalidStateError(
                f"the call {self.label} has not ended: take its result in a callback of @result"
                " (task.on_result) or @future-result, or await the future in an `async def` callback"
            )
        try:
            return super().result()
        finally:
            del self  # what is raised has this frame in its traceback, and would keep its own future

    def set_result(self, result: R) -> None:  # noqa: ARG002 - asyncio's interface
        """Refused: only the run says how a submission has ended.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(f"the outcome of the call {self.label} is the executor's; cancel() does without it")

    def set_exception(self, exception: type | BaseException) -> None:
        """Refused, as `set_result` is."""
        self.set_result(exception)  # type: ignore[arg-type]

    def mark_cancelled(self) -> None:
        """Put it in the cancelled state, without telling anybody else. For the run alone."""
        super().cancel()
        self._run = None

    def succeed(self, result: R) -> None:
        """Put it in the state of success. For the run alone."""
        self._run = None
        _set_result(self, result)

    def fail(self, error: BaseException) -> None:
        """Put it in the state of failure. For the run alone."""
        self._run = None
        if isinstance(error, StopIteration):
            # A coroutine that awaits this future could not tell it from its own end, so asyncio refuses it.
            stand_in = RuntimeError(f"the computed function raised {error!r}")
            stand_in.__cause__ = error
            error = stand_in
        _set_exception(self, error)
        self.exception()  # events tell it: it must not be reported as "never retrieved" as well

    def __reduce__(self) -> Any:
        """Refused: it is of this process, and has no value before its end.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"the future of {self.label} cannot be sent to a worker, as an argument for instance: submit what needs its"
            " result in a callback of @result (task.on_result), with the result as the argument"
        )

    def __repr__(self) -> str:
        number = f" {self.number}" if self.number >= 0 else ""
        return f"<Future{number}: {self.label}, {self._state_in_words()}>"

    def _state_in_words(self) -> str:
        from amltk._labels import value_in_short

        if not self.done():
            return "pending"
        if self.cancelled():
            return "cancelled"
        error = self.exception()
        return f"raised {type(error).__name__}" if error is not None else f"result={value_in_short(super().result())}"
