"""Limit how often a task is computed, and alongside which others."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Concatenate, Literal, get_args

from amltk._checks import check_optional_count
from amltk.exceptions import SchedulerNotRunningError
from amltk.scheduling.events import Event
from amltk.scheduling.plugin import HoldingPlugin
from amltk.scheduling.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.call import Call
    from amltk.scheduling.events import Subscription

OnLimit = Literal["drop", "queue"]


class Limiter(HoldingPlugin):
    """Holds submissions of a task back: `Task.submit` returns None and an event of the task says why.

    The reasons are checked in the order below, and the first that applies counts. With `on_limit="drop"` a submission
    that is held back is dropped: keep it in an `amltk.types.Requeue` if it must not be lost. With `"queue"` the limiter
    keeps it and submits it as soon as there is room; kept submissions stay in order, and later ones queue behind them.
    Submissions beyond `max_calls` can never be made, so they are dropped in both cases.

    A call that waits for the futures among its arguments is pending, and counts, from its submission on.

    Submissions still kept when a run ends are submitted in the next run, after `@start`.

    Args:
        max_calls: How many submissions are made in total, at least 1; None for no limit.
        max_concurrent: How many may be pending at once, at least 1; None for no limit.
        not_while_running: Tasks; nothing is submitted while one of them has pending calls.
        on_limit: What to do with a submission that is held back: `"drop"` or `"queue"`.

    Raises:
        ValueError: A limit is below 1, or `on_limit` is unknown.
        TypeError: A limit is not a whole number, or `not_while_running` contains something other than tasks.
    """

    name = "limiter"

    CALL_LIMIT_REACHED: Event[Concatenate[Task[..., Any], ...], Any] = Event("call-limit-reached")
    """Held back by `max_calls`. Callbacks take the task and the arguments of the submission."""

    CONCURRENT_LIMIT_REACHED: Event[Concatenate[Task[..., Any], ...], Any] = Event("concurrent-limit-reached")
    """Held back by `max_concurrent`. Callbacks take the task and the arguments of the submission."""

    DISABLED_DUE_TO_RUNNING_TASK: Event[Concatenate[Task[..., Any], Task[..., Any], ...], Any] = Event(
        "disabled-due-to-running-task"
    )
    """Held back by `not_while_running`. Callbacks take the running task, the task and the submission's arguments."""

    def __init__(
        self,
        *,
        max_calls: int | None = None,
        max_concurrent: int | None = None,
        not_while_running: Task[..., Any] | Iterable[Task[..., Any]] | None = None,
        on_limit: OnLimit = "drop",
    ) -> None:
        if on_limit not in get_args(OnLimit):
            raise ValueError(f"on_limit={on_limit!r}: must be {' or '.join(map(repr, get_args(OnLimit)))}")
        self.max_calls: int | None = check_optional_count("max_calls", max_calls)
        self.max_concurrent: int | None = check_optional_count("max_concurrent", max_concurrent)
        self.not_while_running: tuple[Task[..., Any], ...] = _check_tasks(not_while_running)
        self.on_limit: OnLimit = on_limit
        self.n_calls: int = 0
        self.task: Task[..., Any] | None = None
        self._subscriptions: list[Subscription] = []
        self._kept: list[tuple[int, Call]] = []  # a heap, with the earliest submission on top

    @property
    def n_running(self) -> int:
        """How many calls of the task are pending."""
        return 0 if self.task is None else self.task.n_pending

    @property
    def n_kept(self) -> int:
        """How many submissions the limiter keeps until there is room."""
        return len(self._kept)

    def attach_task(self, task: Task[..., Any]) -> None:
        """Limit the submissions of this task.

        Raises:
            ValueError: The plugin already limits another task, or the task would have to wait for itself.
        """
        if self.task is not None:
            raise ValueError(f"this {type(self).__name__} belongs to {self.task!r}; create another one for {task!r}")
        if task in self.not_while_running:
            raise ValueError(f"not_while_running={task!r}: a task cannot wait for itself; use max_concurrent=1")
        self.task = task
        if self.on_limit == "queue":
            self._subscriptions = [task.scheduler.on_start.register(self._release, hidden=True)]
            for other in (task, *self.not_while_running):
                self._subscriptions += [
                    other.on_done.register(self._release, hidden=True),
                    other.on_cancelled.register(self._release, hidden=True),
                ]

    def detach_task(self, task: Task[..., Any]) -> None:
        """Limit it no more: what is kept is submitted now or, where there is no run, after the next `@start`."""
        for subscription in self._subscriptions:
            subscription.end()
        self._subscriptions = []
        self.task = None
        kept, self._kept = self._kept, []
        submit = partial(self._submit_kept, task, kept, lambda: True)
        submit()
        if kept:

            def submit_all() -> None:
                submit()
                if not kept:
                    late.end()

            late = task.scheduler.on_start.register(submit_all, hidden=True)

    def events(self) -> list[Event[..., Any]]:
        """The three events above."""
        return [self.CALL_LIMIT_REACHED, self.CONCURRENT_LIMIT_REACHED, self.DISABLED_DUE_TO_RUNNING_TASK]

    def prepare(self, call: Call) -> bool:
        """Let the submission pass, or emit the reason and keep it if requested."""
        task = self._attached()
        reason = self._reason()
        if reason is None and self._kept and self._kept[0][0] < call.number:
            reason = (self.CONCURRENT_LIMIT_REACHED, task)  # it would overtake the kept ones
        if reason is None:
            self.n_calls += 1
            call.on_end(self._uncount, call)
            return True
        args, kwargs = call.given
        if self.on_limit == "queue" and not self._calls_are_used_up(kept=self.n_kept):
            _keep(call, self._kept)
        elif self.on_limit == "queue":
            reason = (self.CALL_LIMIT_REACHED, task)
        event, *tasks = reason
        task.emit(event, *tasks, *args, **kwargs)
        return False

    def _reason(self) -> tuple[Event[..., Any], *tuple[Task[..., Any], ...]] | None:
        """Why nothing can be submitted now, as an event and its tasks; None if submission is possible."""
        task = self._attached()
        if self._calls_are_used_up():
            return self.CALL_LIMIT_REACHED, task
        if self.max_concurrent is not None and task.n_pending >= self.max_concurrent:
            return self.CONCURRENT_LIMIT_REACHED, task
        for other in self.not_while_running:
            if other.running():
                return self.DISABLED_DUE_TO_RUNNING_TASK, other, task
        return None

    def _calls_are_used_up(self, *, kept: int = 0) -> bool:
        return self.max_calls is not None and self.n_calls + kept >= self.max_calls

    def _uncount(self, call: Call) -> None:
        if call.future is None:  # the submission was refused later
            self.n_calls -= 1

    def _release(self, *_: object) -> None:
        """Submit the kept calls while there is room."""
        self._submit_kept(self._attached(), self._kept, lambda: self._reason() is None)

    def _submit_kept(self, task: Task[..., Any], kept: list[tuple[int, Call]], has_room: Callable[[], bool]) -> None:
        with task.scheduler.submission_lock:
            while kept and task.scheduler.running() and has_room():
                call = heappop(kept)[1]
                try:
                    task.offer_again(call)
                except Exception as error:  # noqa: BLE001 - reported; the calls behind it must not wait forever
                    if isinstance(error, SchedulerNotRunningError) and not task.scheduler.running():
                        _keep(call, kept)  # a stop was requested meanwhile
                        return
                    task.scheduler.report(error, f"submission of {task.name} that {self.name} held back")

    def _attached(self) -> Task[..., Any]:
        if self.task is None:
            raise RuntimeError(f"this {type(self).__name__} is not attached to a task; use task.attach_plugin(...)")
        return self.task

    def calls_left(self) -> int | None:
        """How many submissions `max_calls` still allows."""
        return None if self.max_calls is None else max(0, self.max_calls - self.n_calls)

    def status(self) -> str:
        """The usage of each limit."""
        parts = []
        if self.max_calls is not None:
            parts.append(f"calls {self.n_calls}/{self.max_calls}")
        if self.max_concurrent is not None:
            parts.append(f"concurrent {self.n_running}/{self.max_concurrent}")
        if self.not_while_running:
            parts.append("not while " + ", ".join(task.name for task in self.not_while_running))
        if self._kept:
            parts.append(f"kept {self.n_kept}")
        return " · ".join(parts)


def _keep(call: Call, kept: list[tuple[int, Call]]) -> None:
    call.kept = True
    heappush(kept, (call.number, call))


def _check_tasks(given: object) -> tuple[Task[..., Any], ...]:
    if given is None:
        return ()
    tasks = []
    for task in given if isinstance(given, Iterable) else (given,):
        if not isinstance(task, Task):
            raise TypeError(f"not_while_running={given!r}: must be a Task or several of them")
        tasks.append(task)
    return tuple(tasks)
