"""What a plugin is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.call import Call
    from amltk.scheduling.events import Event
    from amltk.scheduling.task import Task

    Submission = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Plugin:
    """Refuses, changes or follows the submissions of a task, and may add events of its own to it.

    Subclass it and override what is needed: `pre_submit` to refuse or change a submission, `prepare` to follow it to
    its end as well. Plugins are asked in the order in which they were attached, under the scheduler's submission lock,
    so that a plugin's own numbers need no lock. They may be asked from any thread that submits.

    Attributes:
        name: Shown in displays and messages; unique within a task.
    """

    name: str = "plugin"

    def attach_task(self, task: Task[..., Any]) -> None:
        """Get to know the task. Called once, when the plugin is attached.

        Raises:
            ValueError: The plugin belongs to a task already, and can serve one only; or it cannot do its work there.
        """

    def detach_task(self, task: Task[..., Any]) -> None:
        """Undo what `attach_task` has done, such as subscriptions. Called once, when the plugin is detached.

        Calls that it has let pass before are followed to their end: `on_end` and `on_outcome` hold for them.
        """

    def events(self) -> list[Event[..., Any]]:
        """The events that it adds to the task; tell them with `task.emit`."""
        return []

    def pre_submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Submission | None:
        """Look at a submission before it is made.

        Returns:
            The function and its arguments to go on with, changed or not, or None to hold the submission back:
            `Task.submit` then returns None.
        """
        return fn, args, kwargs

    def prepare(self, call: Call) -> bool:
        """Look at a submission before it is made, and set up what it needs; by default what `pre_submit` says.

        Assign to `call.function`, `call.args` and `call.kwargs` to change what is computed. Register the teardown of
        whatever is set up here with `call.on_end`, which calls it however the call ends, in reverse order. With
        `call.on_outcome` a plugin looks at outcomes before they are told.

        What another plugin keeps is torn down meanwhile, and comes here again when its turn has come.

        Returns:
            Whether to go on; False holds the submission back: `Task.submit` then returns None.
        """
        changed = self.pre_submit(call.function, *call.args, **call.kwargs)
        if changed is None:
            return False
        call.function, call.args, call.kwargs = changed
        return True

    def calls_left(self) -> int | None:
        """How many more submissions it lets pass, so that displays can tell how far the task is; None if any number."""
        return None

    def status(self) -> str:
        """One short line about its state for displays; empty for none."""
        return ""
