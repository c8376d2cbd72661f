"""The base class of plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.call import Call
    from amltk.scheduling.events import Event
    from amltk.scheduling.task import Task

    Submission = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Plugin:
    """Refuses, changes or follows the submissions of a task, and may add events to the task.

    Subclass it and override what you need: `pre_submit` to refuse or change a submission, `prepare` to also follow it
    to its end. Plugins are called in the order in which they were attached, under the scheduler's submission lock, so
    that a plugin's own counters need no lock. They may be called from any thread that submits.

    Attributes:
        name: Shown in displays and messages; unique within a task.
        replayable: Whether a run with a journal may have it: all that it makes callbacks see follows from submissions,
            outcomes and timers of the run, and it does nothing outside of the program that must not be done twice.
    """

    name: str = "plugin"
    replayable: bool = True

    def attach_task(self, task: Task[..., Any]) -> None:
        """Prepare for this task. Called once, when the plugin is attached.

        Raises:
            ValueError: The plugin already belongs to a task and can serve only one, or it cannot work with this task.
        """

    def detach_task(self, task: Task[..., Any]) -> None:
        """Undo what `attach_task` has done, such as subscriptions. Called once, when the plugin is detached.

        Calls that it has let pass before are followed to their end: `on_end` and `on_outcome` hold for them.
        """

    def events(self) -> list[Event[..., Any]]:
        """The events that the plugin adds to the task; emit them with `task.emit`."""
        return []

    def pre_submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Submission | None:
        """Inspect a submission before it is made.

        Returns:
            The function and arguments to submit, changed or not; or None to hold the submission back: `Task.submit`
            then returns None.
        """
        return fn, args, kwargs

    def prepare(self, call: Call) -> bool:
        """Inspect a submission before it is made, and set up what it needs; calls `pre_submit` by default.

        Assign to `call.function`, `call.args` and `call.kwargs` to change what is computed, or to `call.answer` what
        has the outcome if nothing need be computed. Register the teardown of everything that you set up here with
        `call.on_end`, which calls it however the call ends, in reverse order. With `call.on_outcome` a plugin reviews
        outcomes before they are delivered. With `call.on_results` it gets the results that the call waits for, if there
        are futures among its arguments.

        If another plugin keeps the submission, it is torn down, and comes here again when its turn comes.

        Returns:
            Whether to continue; False holds the submission back: `Task.submit` then returns None.
        """
        changed = self.pre_submit(call.function, *call.args, **call.kwargs)
        if changed is None:
            return False
        call.function, call.args, call.kwargs = changed
        return True

    def resume(self, call: Call) -> None:
        """Called before the executor gets a call that an earlier session submitted, in a run with a journal.

        The call has been prepared in the replay, and has no outcome. If `call.answer` is set, it is not computed.
        """

    def calls_left(self) -> int | None:
        """How many more submissions the plugin allows, so that displays can show the progress; None if unlimited."""
        return None

    def status(self) -> str:
        """One short line for displays about the plugin's state; empty for none."""
        return ""


class PassingPlugin(Plugin):
    """A plugin that lets every call pass with the arguments that it was submitted with.

    Derive from this one what does no more than follow calls: type checkers then know that `Task.submit` returns a
    future in any case.
    """


class HoldingPlugin(Plugin):
    """A plugin that may hold calls back, and lets those that pass have the arguments that they were submitted with."""


class GivingPlugin(Plugin):
    """A plugin that lets every call pass, and gives it arguments that are not submitted, as `Comm.Plugin` does.

    Type checkers cannot tell which ones these are: they do not check what `Task.submit` is called with.
    """
