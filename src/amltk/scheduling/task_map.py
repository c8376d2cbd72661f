"""A task mapped over iterables, with a bounded number of calls in flight."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeAlias, TypeVar

from amltk._checks import check_bool, check_optional_count, explains_options
from amltk._notes import safe_repr
from amltk.exceptions import JournalUnsupportedError, SchedulerNotRunningError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from amltk.scheduling._journal.options import Journal
    from amltk.scheduling._results.outbox import Outbox
    from amltk.scheduling._run.policy import OnException, Reaction, TimeoutFrom
    from amltk.scheduling._scheduler.display import Display
    from amltk.scheduling.call import Call
    from amltk.scheduling.events import Subscription
    from amltk.scheduling.future import Future
    from amltk.scheduling.results import Results
    from amltk.scheduling.task import Task
    from amltk.types import Duration

R = TypeVar("R")

HEAD_START_SECONDS = 0.1
"""How long a thread other than the run's has to begin a loop over the results of a map."""

Unpack: TypeAlias = Literal["args", "kwargs"]
"""How an item is passed to a call: as its positional arguments, or as its keyword arguments."""

Given: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""The positional and keyword arguments of a call."""


class TaskMap(Generic[R]):
    """Submits a task for each item, and takes the next item when an earlier call has ended. Made by `Task.map`.

    Attributes:
        task: The task.
        total: How many items there are; None if the iterables have no length.
        n_taken: How many items were taken so far.
        exhausted: Whether no further item will be taken.
    """

    def __init__(
        self,
        task: Task[..., R],
        iterables: tuple[Iterable[Any], ...],
        in_flight: int | None,
        unpack: Unpack | None = None,
    ) -> None:
        if not iterables:
            raise TypeError("map() needs an iterable of arguments; submit() calls a function without any")
        if any(isinstance(items, asyncio.Future) for items in iterables):  # asyncio's have an `__iter__`
            raise TypeError(
                "map() needs an iterable of arguments, not a future of one: call it in a callback of @result"
                " (task.on_result), with the result; the items of an iterable may be futures"
            )
        in_flight = check_optional_count("in_flight", in_flight)
        if unpack not in {None, "args", "kwargs"}:
            raise ValueError(f"unpack={unpack!r}: must be 'args', 'kwargs' or None")
        if unpack is not None and len(iterables) > 1:
            raise TypeError(
                f"unpack={unpack!r}: takes one iterable, whose items have all arguments; not {len(iterables)}"
            )
        sizes = [len(items) if isinstance(items, Sized) else None for items in iterables]
        known = [size for size in sizes if size is not None]
        self.task: Task[..., R] = task
        self.total: int | None = min(known) if len(known) == len(sizes) else None
        self.n_taken: int = 0
        self.exhausted: bool = False
        self._in_flight = in_flight
        self._unpack = unpack
        self._items: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        self._refused: tuple[Any, ...] | None = None  # by a plugin, which may accept it later
        self._mine: dict[Future[R], Call] = {}
        self._kept: list[Call] = []  # by a plugin, which will submit them later
        self._outbox: Outbox | None = None  # for ended calls, if a loop takes them
        self._is_read = False  # a loop takes them, or is about to
        self._filling = threading.Lock()
        self._wanted = False
        self._subscriptions: list[Subscription] = []

    @explains_options(in_flight="give it to map(in_flight=...)", order="ordered")
    def results(
        self,
        *,
        ordered: bool = False,
        timeout: Duration | None = None,
        wait: bool = True,
        on_exception: OnException = "raise",
        on_callback_exception: OnException = "raise",
        on_cancelled: Reaction = "raise",
        display: Display = "auto",
        journal: str | os.PathLike[str] | Journal | None = None,
        timeout_from: TimeoutFrom = "start",
    ) -> Results[R]:
        """Run the scheduler and yield the calls as they end, to a plain loop.

        ```python
        for call in task.map(configs).results():
            print(call.args, call.result())
        ```

        Each call is the future of its submission, and has ended. `async for` works inside a running event loop, and
        `await` returns all calls as a list. Callbacks run as in any run, while the loop waits for the next call.

        No more items are taken than may be in flight; a call that has ended counts until the body of the loop is done
        with it. So the iterable may be endless, and an item may depend on what the body did with earlier calls. If the
        loop is left by `break` or an exception, the run ends at once, without waiting for compute.

        If the scheduler is already running, elsewhere or because of an enclosing loop, this loop joins the run: the run
        continues afterwards and keeps its options.

        Args:
            ordered: Yield the calls in the order of their items; a call that ends early waits for its turn.
            timeout: As in `Scheduler.run`. The loop ends at the timeout, after the calls that are still delivered then.
            wait: As in `Scheduler.run`, for the timeout and `stop`.
            on_exception: As in `Scheduler.run`. The loop raises the exception in place of the call. With `"continue"`
                and `"end"` a failed call is yielded like any other, see `call.exception()`.
            on_callback_exception: As in `Scheduler.run`; also for what the iterable of the map raises.
            on_cancelled: As in `Scheduler.run`. Calls that the end of the run cancels are not yielded.
            display: As in `Scheduler.run`.
            journal: As in `Scheduler.run`. What holds for callbacks holds for the body of the loop: when the program is
                started again, the recorded calls are yielded again. Plain `for` only.
            timeout_from: As in `Scheduler.run`.

        Returns:
            An iterable of the calls, to go through once. Nothing is computed before that.

        Raises:
            ValueError: An argument has a value that is not allowed.
            TypeError: An argument has a type that is not allowed.
        """
        from amltk.scheduling._run.policy import RunOptions
        from amltk.scheduling.results import Results  # few programs need it

        options = RunOptions.check(
            timeout=timeout,
            end_on_empty=True,
            wait=wait,
            on_exception=on_exception,
            on_callback_exception=on_callback_exception,
            on_cancelled=on_cancelled,
            journal=journal,
            timeout_from=timeout_from,
        )
        results = Results(self, options, ordered=check_bool("ordered", ordered), display=display)
        self._is_read = True
        return results

    def check_given_to_nobody(self) -> None:
        """Raise a `RuntimeError` if it is too late to take the calls from here. For `Results` only."""
        if self._outbox is not None:
            raise RuntimeError("the results of this map were already read: call map() again to compute them again")
        if self.n_ended:
            raise RuntimeError(
                f"{self.n_ended} calls have already ended, and were delivered only as events: write"
                " `for call in task.map(...).results():` in one line, before they are computed"
            )

    def give_to(self, wake: Callable[[], object], *, ordered: bool) -> Outbox:
        """Collect the calls in an outbox as they end. For `Results` only.

        Args:
            wake: Called when there may be something to take.
            ordered: Whether to take them in the order of the items.
        """
        from amltk.scheduling._results.outbox import Outbox

        with self.task.scheduler.submission_lock:
            self.check_given_to_nobody()
            calls = sorted([*self._mine.values(), *self._kept], key=lambda call: call.number) if ordered else None
            self._outbox = Outbox(wake, calls)
        return self._outbox

    @property
    def n_ended(self) -> int:
        """How many calls have ended, or were kept by a plugin and then dropped."""
        return self.n_taken - len(self._mine) - len(self._kept) - (self._refused is not None)

    def calls_left(self) -> int | None:
        """How many items are still to be submitted; None if unknown."""
        kept = sum(call.future is None for call in list(self._kept))  # others were submitted, and are adopted soon
        if self.exhausted:
            return kept
        return None if self.total is None else self.total - self.n_taken + kept + (self._refused is not None)

    @property
    def over(self) -> bool:
        """Whether no further item is taken and all calls have ended. Exact only while the submission lock is held."""
        return self.exhausted and not self._mine and not self._kept

    def nothing_left(self, outbox: Outbox, *, run_is_over: bool) -> bool:
        """Whether no call is to be taken from the outbox any more, now or later. For `Results` only.

        Args:
            outbox: What the calls are taken from.
            run_is_over: Whether the run was over before this was asked, so that no call ends any more.
        """
        with self.task.scheduler.submission_lock:  # in which a call that ends is moved into the outbox
            return (run_is_over or self.over) and not outbox.occupied

    def start(self) -> None:
        """Submit the first items now if the scheduler is running, else after its next `@start`. For the task only.

        If it is running in another thread, a loop over the results submits them, or else a timer does shortly after:
        the loop would miss calls that had ended before it began.

        Raises:
            JournalUnsupportedError: It is running in another thread, with a journal.
        """
        task, scheduler = self.task, self.task.scheduler
        if scheduler.has_journal() and scheduler.is_elsewhere():
            raise JournalUnsupportedError(
                f"cannot map {task.name} from another thread than the run's: with journal=, an iterable cannot be"
                " recorded. Do it before the run or in a callback, or submit call by call"
            )
        self._subscriptions = [
            *(task.register(event, self._note_end, hidden=True) for event in (task.RESULT, task.EXCEPTION)),
            task.register(task.CANCELLED, self._note_end, hidden=True),
            scheduler.on_empty.register(self._continue, hidden=True),
            scheduler.on_finishing.register(self._note_end_of_run, hidden=True),
        ]
        if scheduler.is_elsewhere():
            with contextlib.suppress(SchedulerNotRunningError):  # the end was requested meanwhile
                scheduler.call_later(HEAD_START_SECONDS, self._fill_unless_read)
        elif scheduler.running():
            self.fill()
        else:
            self._subscriptions.append(scheduler.on_start.register(self.fill, hidden=True))

    def cancel(self) -> None:
        """Take no further item. Submitted calls continue; cancel their futures to stop those as well."""
        self.exhausted = True
        self._unsubscribe_at_the_end()

    def _unsubscribe_at_the_end(self) -> None:
        with self.task.scheduler.submission_lock:
            self._adopt()
            is_over = self.over
        if is_over:
            for subscription in self._subscriptions:
                subscription.end()
            if self._outbox is not None:
                self._outbox.wake()

    def _note_end_of_run(self) -> None:
        self.cancel()
        if self._outbox is not None:
            self._outbox.finish()

    def _note_end(self, future: Future[R], *_: object) -> Coroutine[Any, Any, None] | None:
        """Make room; if a loop takes the calls, once it is done with this one. The run waits for what is returned."""
        scheduler = self.task.scheduler
        with scheduler.submission_lock:
            self._adopt()
            if self._mine.pop(future, None) is None:
                return None
            hold = None
            if self._outbox is not None:
                hold = self._outbox.put(future, wanted=scheduler.running() or not future.cancelled())
        if self._outbox is None:
            self.fill()
        self._unsubscribe_at_the_end()
        return hold

    def _adopt(self) -> None:
        """Track calls that a plugin had kept and has since submitted or given up. Requires the submission lock."""
        if not self._kept:
            return  # as nearly always: this is done several times for each call
        for call in [call for call in self._kept if call.future is not None or not call.kept]:
            self._kept.remove(call)
            if call.future is not None:
                self._mine[call.future] = call

    def _continue(self) -> None:
        """Submit what a plugin has refused or kept before: nothing is left that it could wait for."""
        if self.n_taken:  # else the first items are submitted by a loop over the results, or a timer
            self.fill()

    def _fill_unless_read(self) -> None:
        """Submit the first items, unless a loop over the results does that when it begins."""
        if not self._is_read:
            self.fill()

    def fill(self) -> None:
        """Submit as many as there is room for. If another thread is already doing this, it checks again.

        Raises:
            Exception: What the iterable raises.
        """
        self._wanted = True
        while self._wanted:
            if not self._filling.acquire(blocking=False):
                return
            try:
                self._wanted = False
                while not self.exhausted and self._has_room() and self._submit_next():
                    pass
            finally:
                self._filling.release()

    def _has_room(self) -> bool:
        scheduler = self.task.scheduler
        with scheduler.submission_lock:
            self._adopt()
            taken = len(self._mine) + len(self._kept) + (0 if self._outbox is None else self._outbox.occupied)
            return taken < self._limit() and scheduler.running()

    def _limit(self) -> int:
        return self._in_flight or 2 * (self.task.scheduler.n_workers or os.cpu_count() or 1)

    def _submit_next(self) -> bool:
        """Submit the next item. False if there is none, or if it cannot be submitted now."""
        item = self._refused if self._refused is not None else self._take()
        if item is None:
            self.cancel()
            return False
        with self.task.scheduler.submission_lock:  # so that its end is noted only afterwards
            self._refused = item if self.exhausted else None  # by another thread meanwhile
            if self.exhausted:
                return False
            try:
                given = self._given(item)
                self._note(self.task.offer(*given), item)
            except Exception as error:  # noqa: BLE001 - reported; later items are computed regardless
                if isinstance(error, SchedulerNotRunningError) and not self.task.scheduler.running():
                    self._refused = item  # the iterable or another thread has requested the end
                else:
                    self.task.scheduler.report(error, f"submission of {self.task.name} by its map")
        return self._refused is None

    def _given(self, item: tuple[Any, ...]) -> Given:
        """The arguments to call the function with.

        Raises:
            TypeError: The item cannot be unpacked as requested.
        """
        if self._unpack is None:
            return item, {}
        arguments = item[0]
        if self._unpack == "kwargs":
            if not isinstance(arguments, Mapping):
                raise TypeError(
                    f"unpack='kwargs': an item is {safe_repr(arguments)}, which is not a mapping from"
                    f" the argument names of {self.task.name} to values"
                )
            return (), dict(arguments)
        if isinstance(arguments, str | Mapping | asyncio.Future) or not isinstance(arguments, Iterable):
            raise TypeError(
                f"unpack='args': an item is {safe_repr(arguments)}, which is not a tuple of arguments of"
                f" {self.task.name}"
            )
        return tuple(arguments), {}

    def _note(self, call: Call, item: tuple[Any, ...]) -> None:
        if call.future is not None:
            self._mine[call.future] = call
        elif call.kept:
            self._kept.append(call)
        else:
            self._refused = item
            return
        if self._outbox is not None:
            self._outbox.expect(call)

    def _take(self) -> tuple[Any, ...] | None:
        try:
            arguments = next(self._items, None)
        except BaseException:
            self.cancel()  # never call it again
            raise
        self.n_taken += arguments is not None
        return arguments

    def __iter__(self) -> NoReturn:
        """Refused: a map itself has no results.

        Raises:
            TypeError: Always; it shows what to write.
        """
        raise TypeError(
            "the results of a map arrive in events, or one by one: write `for call in task.map(...).results():`, or"
            " `list(task.map(...).results())`"
        )

    def __repr__(self) -> str:
        total = "" if self.total is None else f" of {self.total}"
        return f"<TaskMap of {self.task.name}: {self.n_ended}{total} ended, {len(self._mine)} in flight>"
