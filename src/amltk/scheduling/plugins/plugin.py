"""What a plugin is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.events import Event
    from amltk.scheduling.task import Task

    Submission = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Plugin:
    """Refuses or changes the submissions of one task, and may add events of its own to it.

    Subclass it and override what is needed; every method does nothing by default. Plugins are asked in the order in
    which they were attached, under the scheduler's submission lock, so that a plugin's own numbers need no lock. They
    may be asked from any thread that submits.

    Attributes:
        name: Shown in displays and messages; unique within a task.
    """

    name: str = "plugin"

    def attach_task(self, task: Task[..., Any]) -> None:
        """Get to know the task. Called once, when the plugin is attached.

        Raises:
            ValueError: The plugin belongs to a task already, and can serve one only.
        """

    def events(self) -> list[Event[..., Any]]:
        """The events that it adds to the task; tell them with `task.emit`."""
        return []

    def pre_submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Submission | None:
        """Look at a submission before it is made.

        Returns:
            The function and its arguments to go on with, changed or not, or None to hold the submission back:
            `Task.submit` then returns None, and the plugins asked before undo what they did.
        """
        return fn, args, kwargs

    def undo_submit(self) -> None:
        """Undo what the last `pre_submit` did: its submission was not made.

        Called in reverse order for every plugin that let it pass, when a later plugin held it back or something
        raised.
        """

    def status(self) -> str:
        """One short line about its state for displays; empty for none."""
        return ""
