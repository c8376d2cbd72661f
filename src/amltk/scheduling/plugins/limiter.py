"""Limit how often and beside what a task is computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Concatenate

from amltk.scheduling.events import Event
from amltk.scheduling.plugins.plugin import Plugin
from amltk.scheduling.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.plugins.plugin import Submission


class Limiter(Plugin):
    """Holds submissions of a task back: `Task.submit` returns None and an event of the task says why.

    The reasons are looked at in this order, and the first one counts. Keep what was held back in a
    `amltk.types.Requeue` if it must not be lost.

    Args:
        max_calls: How many submissions are made in all, at least 1; None for no limit.
        max_concurrent: How many may be pending at a time, at least 1; None for no limit.
        not_while_running: Tasks; nothing is submitted while one of them has pending work.

    Raises:
        ValueError: A limit is below 1.
        TypeError: A limit is no whole number, or `not_while_running` holds something else than tasks.
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
    ) -> None:
        self.max_calls: int | None = _check_limit("max_calls", max_calls)
        self.max_concurrent: int | None = _check_limit("max_concurrent", max_concurrent)
        self.not_while_running: tuple[Task[..., Any], ...] = _check_tasks(not_while_running)
        self.n_calls: int = 0
        self.task: Task[..., Any] | None = None

    @property
    def n_running(self) -> int:
        """How many calls of the task are pending."""
        return 0 if self.task is None else self.task.n_running

    def attach_task(self, task: Task[..., Any]) -> None:
        """Limit this task.

        Raises:
            ValueError: It limits another task already, or would have to wait for itself.
        """
        if self.task is not None:
            raise ValueError(f"this {type(self).__name__} belongs to {self.task!r}; make another one for {task!r}")
        if task in self.not_while_running:
            raise ValueError(f"not_while_running={task!r}: a task cannot wait for itself; use max_concurrent=1")
        self.task = task

    def events(self) -> list[Event[..., Any]]:
        """The three events above."""
        return [self.CALL_LIMIT_REACHED, self.CONCURRENT_LIMIT_REACHED, self.DISABLED_DUE_TO_RUNNING_TASK]

    def pre_submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Submission | None:
        """Let it pass, or tell why not."""
        task = self.task
        if task is None:
            raise RuntimeError(f"this {type(self).__name__} was not attached; use task.attach_plugin(...)")
        if self.max_calls is not None and self.n_calls >= self.max_calls:
            task.emit(self.CALL_LIMIT_REACHED, task, *args, **kwargs)
            return None
        if self.max_concurrent is not None and task.n_running >= self.max_concurrent:
            task.emit(self.CONCURRENT_LIMIT_REACHED, task, *args, **kwargs)
            return None
        for other in self.not_while_running:
            if other.running():
                task.emit(self.DISABLED_DUE_TO_RUNNING_TASK, other, task, *args, **kwargs)
                return None
        self.n_calls += 1
        return fn, args, kwargs

    def undo_submit(self) -> None:
        """Do not count the last call."""
        self.n_calls -= 1

    def status(self) -> str:
        """How much of each limit is used."""
        parts = []
        if self.max_calls is not None:
            parts.append(f"calls {self.n_calls}/{self.max_calls}")
        if self.max_concurrent is not None:
            parts.append(f"concurrent {self.n_running}/{self.max_concurrent}")
        if self.not_while_running:
            parts.append("not while " + ", ".join(task.name for task in self.not_while_running))
        return " · ".join(parts)


def _check_limit(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r}: must be a whole number, at least 1, or None for no limit")
    if value < 1:
        raise ValueError(f"{name}={value!r}: must be at least 1, or None for no limit")
    return value


def _check_tasks(given: object) -> tuple[Task[..., Any], ...]:
    if given is None:
        return ()
    tasks = []
    for task in given if isinstance(given, Iterable) else (given,):
        if not isinstance(task, Task):
            raise TypeError(f"not_while_running={given!r}: must be a Task or several of them")
        tasks.append(task)
    return tuple(tasks)
