"""One submission on its way through the plugins of a task, from the first look at it to its ending."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from amltk.scheduling.executors.process_pool.limits import CallLimits
    from amltk.scheduling.future import Future


class Outcome(NamedTuple):
    """What has come of one attempt.

    Attributes:
        result: What the function has returned; None as well where it has not.
        error: What it has raised, or why it could not be computed; None if it has returned or was cancelled.
        cancelled: Whether it was cancelled.
    """

    result: Any
    error: BaseException | None
    cancelled: bool


_numbers = itertools.count(1)

if TYPE_CHECKING:
    Review = Callable[[Outcome], asyncio.Future[bool] | None]


class Call:
    """One submission of a task that has plugins; each of them sees it in `Plugin.prepare` before it is made.

    Attributes:
        task: The task.
        number: Its place in the order of all submissions, which it keeps while a plugin keeps it.
        given: The arguments and keyword arguments that `Task.submit` was called with; what events tell.
        function: What is computed; plugins may set it, as `args` and `kwargs`. After the end all three are as they were
            given.
        args: Its arguments.
        kwargs: Its keyword arguments; a dictionary of this call's own.
        limits: What it may use, for executors that enforce limits; None for no limits.
        future: The outcome; None before the submission was made, and for ever if it is not.
        attempt: Which attempt to compute it this is, from 1 on.
        kept: Whether the plugin that has held it back will submit it later, with `Task.offer_again`.
    """

    __slots__ = (
        "_ends",
        "_reviews",
        "args",
        "attempt",
        "function",
        "future",
        "given",
        "kept",
        "kwargs",
        "limits",
        "number",
        "task",
    )

    def __init__(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.task: Any = task  # a Task, which is a layer above
        self.number: int = next(_numbers)
        self.given: tuple[tuple[Any, ...], dict[str, Any]] = (args, kwargs)
        self.future: Future[Any] | None = None
        self.attempt: int = 1
        self._ends = ExitStack()
        self.begin()

    def begin(self) -> None:
        """Be as no plugin has seen it. For the task alone, which asks them all anew about what one has kept."""
        self._forget_plugins()
        self.kept: bool = False

    def _forget_plugins(self) -> None:
        """Let go of what plugins have made of it, which refers to the call itself more often than not."""
        args, kwargs = self.given
        self.function: Callable[..., Any] = self.task.function
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = dict(kwargs)
        self.limits: CallLimits | None = None
        self._reviews: list[Review] = []

    def on_end(self, fn: Callable[..., object], /, *args: Any) -> None:
        """Have `fn(*args)` called once, when the call is over: the teardown of what `Plugin.prepare` has set up.

        That is when a later plugin holds it back or submitting it raises (`future` is None then), or when it has ended
        in whatever way, after the callbacks of its last event. The last one registered is called first; each is called
        whatever the others raise, which goes to the submitter in the first case, unless a plugin keeps the call, and
        else to `on_callback_exception`.
        """
        self._ends.callback(fn, *args)

    def on_outcome(self, review: Review) -> None:
        """Have `review` asked on the loop's thread whenever an attempt has an outcome, before its events are told.

        What it emits is told before them. If it returns a future of the run's loop, the ending is held back until that
        is done; its result True means that another attempt is to be made, unless the run is ending. When the user has
        cancelled the call, or the run ends without waiting, it is cancelled and not waited for. The review registered
        last is asked first; all are asked.
        """
        self._reviews.append(review)

    @property
    def reviews(self) -> list[Review]:
        """Who is to be asked about an outcome, in order."""
        return self._reviews[::-1]

    def end(self) -> None:
        """Tear down what plugins have set up, once, and let go of it. For the task and the run alone.

        Raises:
            BaseException: What a teardown has raised, after all were done.
        """
        try:
            with self.task.scheduler.submission_lock:
                self._ends.close()
        finally:
            self._forget_plugins()

    def __repr__(self) -> str:
        return f"<Call of {self.task.name}, attempt {self.attempt}>"
