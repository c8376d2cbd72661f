"""One submission on its way through the plugins of a task, from its preparation to its end."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from amltk.scheduling._admission.demand import Demand
    from amltk.scheduling.executors.light_future import Answer
    from amltk.scheduling.executors.process_pool.limits import CallLimits
    from amltk.scheduling.future import Future


class Outcome(NamedTuple):
    """The outcome of one attempt.

    Attributes:
        result: What the function returned; None if it did not return.
        error: What it raised, or why it could not be computed; None if it returned or was cancelled.
        cancelled: Whether it was cancelled.
    """

    result: Any
    error: BaseException | None
    cancelled: bool


_numbers = itertools.count(1)


def next_number() -> int:
    """A place in the order of all submissions, for one that is no `Call`."""
    return next(_numbers)


if TYPE_CHECKING:
    Review = Callable[[Outcome], asyncio.Future[bool] | None]


class Heard(NamedTuple):
    """A message of a running call, as its callbacks get it.

    Attributes:
        future: The future of the call.
        kind: What kind of message it is, for the journal.
        place: Which of the call's conversations it belongs to.
        payload: The pickle of its data; None if it has none, or if nothing is recorded.
        is_request: Whether the call waits for an answer.
        note: Called right before the callbacks.
        args: Their arguments.
        channel: Has the callbacks.
        follower: Follows the delivery.
    """

    future: Any
    kind: str
    place: int
    payload: bytes | None
    is_request: bool
    note: Callable[[], None]
    args: tuple[Any, ...]
    channel: Any
    follower: Any


class Conversing(Protocol):
    """A plugin's conversation with a running call, for runs with a journal. On the loop's thread."""

    def hear_again(self, kind: str, payload: bytes | None, *, is_request: bool) -> Heard:
        """A message that is recorded, as its callbacks get it again. The call itself does not exist."""
        ...

    def end_hold(self) -> bool:
        """Hold the end of the call, which is recorded, back no longer. Whether it was held back."""
        ...

    def go_live(self) -> None:
        """Everything recorded was replayed: say what the end of the earlier session has done."""
        ...


class Call:
    """One submission of a task that has plugins. Each plugin sees it in `Plugin.prepare` before it is submitted.

    Attributes:
        task: The task.
        number: Its place in the order of all submissions. It stays the same while a plugin keeps the call.
        given: The positional and keyword arguments given to `Task.submit`, as events deliver them.
        function: The function to compute. Plugins may set it, like `args` and `kwargs`. After the end all three are
            reset to what was submitted.
        args: Its positional arguments.
        kwargs: Its keyword arguments; a dictionary that belongs to this call.
        limits: What it may use, for executors that enforce limits; None for no limits.
        devices: The individual things that it was granted, such as `gpu 0`; empty before.
        demand: What it asks for before it is computed; None for nothing but a worker.
        priority: The priority that it was given while it waited; None for that of its task.
        folder: Its own folder; None if it has none.
        answer: What its outcome comes from if it need not be computed: an `Answer` of `executors.light_future`, which
            has the outcome or will have it. None to have it computed.
        future: Its future; None until it is submitted, and permanently if it never is.
        attempt: The number of the current attempt, starting at 1.
        kept: Whether the plugin that has held it back will submit it later, with `Task.offer_again`.
        conversations: Those that plugins have with it.
    """

    __slots__ = (
        "_ends",
        "_on_results",
        "_reviews",
        "answer",
        "args",
        "attempt",
        "conversations",
        "demand",
        "devices",
        "folder",
        "function",
        "future",
        "given",
        "kept",
        "kwargs",
        "limits",
        "number",
        "priority",
        "task",
    )

    def __init__(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.task: Any = task  # a Task, which is a layer above
        self.number: int = next(_numbers)
        self.given: tuple[tuple[Any, ...], dict[str, Any]] = (args, kwargs)
        self.future: Future[Any] | None = None
        self.attempt: int = 1
        self.priority: float | None = None
        self._ends = ExitStack()
        self.begin()

    def begin(self) -> None:
        """Reset to the state before any plugin saw it. For the task only, which offers a kept call again."""
        self._forget_plugins()
        self.kept: bool = False

    def _forget_plugins(self) -> None:
        """Drop what plugins have attached, which often refers to the call itself."""
        args, kwargs = self.given
        self.function: Callable[..., Any] = self.task.function
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = dict(kwargs)
        self.limits: CallLimits | None = None
        self.demand: Demand | None = None
        self.devices: tuple[str, ...] = ()
        self.folder: Path | None = None
        self.answer: Answer | None = None
        self._reviews: list[Review] = []
        self._on_results: tuple[Callable[[tuple[Any, ...], dict[str, Any]], object], ...] = ()
        self.conversations: list[Conversing] = []

    def on_end(self, fn: Callable[..., object], /, *args: Any) -> None:
        """Call `fn(*args)` once when the call is over: the teardown of what `Plugin.prepare` has set up.

        The call is over when a later plugin holds it back or submitting it raises (`future` is then None), or when it
        has ended in any way, after the callbacks of its last event. Teardowns run in reverse order of registration, and
        each runs whatever the others raise. In the first case their exceptions are raised to the submitter, unless a
        plugin keeps the call; otherwise they go to `on_callback_exception`.
        """
        self._ends.callback(fn, *args)

    def on_results(self, fn: Callable[[tuple[Any, ...], dict[str, Any]], object]) -> None:
        """Call `fn(args, kwargs)` once before the executor gets the call, if it waits for others.

        It is given the positional and keyword arguments of `Task.submit`, with results in place of futures, and may do
        what `Plugin.prepare` may. What it raises becomes the outcome of the call. If one of the results is missing, it
        is not called.
        """
        self._on_results = (*self._on_results, fn)

    def pass_results(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Let its plugins know the results that it has waited for. For the run only."""
        with self.task.scheduler.submission_lock:
            for fn in self._on_results:
                fn(args, kwargs)

    def on_outcome(self, review: Review) -> None:
        """Call `review` on the loop's thread whenever an attempt has an outcome, before its events are delivered.

        Events that it emits are delivered first. If it returns a future of the run's loop, the ending is held back
        until that future is done; if its result is True, another attempt is made, unless the run is ending. If the user
        cancels the call, or the run ends without waiting, that future is cancelled and not waited for. Reviews are
        called in reverse order of registration; all are called.
        """
        self._reviews.append(review)

    @property
    def reviews(self) -> list[Review]:
        """The reviews of an outcome, in the order in which they are called."""
        return self._reviews[::-1]

    def end(self) -> None:
        """Run the teardowns of plugins, once, and release what they have set up. For the task and the run only.

        Raises:
            BaseException: What a teardown raised, after all have run.
        """
        try:
            with self.task.scheduler.submission_lock:
                self._ends.close()
        finally:
            self._forget_plugins()

    def __repr__(self) -> str:
        return f"<Call of {self.task.name}, attempt {self.attempt}>"


class PromisedCall(Call):
    """A call whose future another thread was given before plugins have seen the call: in a run with a journal.

    Args:
        future: Its future, which becomes that of the submission.
        give_up: Called with the future if the call is held back for good.

    Attributes:
        promised: As `future`.
    """

    __slots__ = ("_give_up", "promised")

    def __init__(self, future: Future[Any], give_up: Callable[[Future[Any]], object]) -> None:
        super().__init__(future.task, future.args, future.kwargs)
        self.promised: Future[Any] = future
        self._give_up = give_up

    def end(self) -> None:
        """As in `Call`."""
        try:
            super().end()
        finally:
            if self.future is None and not self.kept:
                self._give_up(self.promised)
