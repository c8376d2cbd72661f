"""One function that is submitted many times and has its own events."""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar

from amltk import _extras
from amltk._checks import check_between, check_bool, explains_options
from amltk._notes import safe_repr
from amltk.scheduling.call import Call
from amltk.scheduling.events import (
    Channel,
    Emitter,
    Event,
    Subscriber,
    callback_name,
    check_computable,
    raise_attribute_error,
)
from amltk.scheduling.task_map import TaskMap

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.future import Future
    from amltk.scheduling.plugin import Plugin
    from amltk.scheduling.scheduler import Scheduler
    from amltk.scheduling.task_map import Unpack

P = ParamSpec("P")
R = TypeVar("R")

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    # What `submit` returns: always a future if no plugin can hold calls back.
    S_co = TypeVarWithDefault("S_co", bound="Future[Any] | None", default="Future[R] | None", covariant=True)
else:
    S_co = TypeVar("S_co", covariant=True)


def _name_of(plugin: object) -> str:
    return plugin.__name__ if isinstance(plugin, type) else safe_repr(plugin)


def _what_to_write(plugin: object) -> str:
    """The remedy, if what was given in place of a plugin can be guessed."""
    kind = plugin if isinstance(plugin, type) else type(plugin)
    if hasattr(kind, "Plugin"):
        return f": write plugins={kind.__name__}.Plugin()"  # a comm: each call has its own
    if kind is plugin and hasattr(kind, "prepare"):
        return f", but a class of them: write plugins={kind.__name__}(...)"
    return ": write for instance plugins=Limits(wall_time=60), or a list of plugins"


class TaskChannels(NamedTuple):
    """The channels that a run emits on, looked up once."""

    submitted: Channel
    waiting: Channel
    done: Channel
    result: Channel
    exception: Channel
    cancelled: Channel


class Task(Emitter, Generic[P, R, S_co]):
    """A function for a scheduler to compute, with events for its own submissions only. Made by `Scheduler.task`.

    For each submission `@submitted` is delivered, then exactly one ending: `@done` with `@result` or `@exception`, or
    else `@cancelled`. The scheduler's own events for the same future come before the task's.

    Calling the task calls the function directly, without the scheduler.

    Args:
        function: The function to compute.
        scheduler: The scheduler that computes it.
        plugins: One plugin or several; see `attach_plugin`.
        init_plugins: Whether to attach the plugins now; if False, call their `attach_task` before the first submission.
        priority: Of the calls that wait for a worker or for resources, those with the highest priority come first, and
            of these the earliest. None for 0. It may be below 0. As soon as one task of a scheduler has a priority, all
            its calls wait in front of the executor until a worker is free; without that, the executor's own queue
            decides. `Future.set_priority` changes it for one call.

    Raises:
        TypeError: `function` is not callable.

    Attributes:
        function: The function to compute.
        scheduler: The scheduler that computes it.
        plugins: The plugins, in the order in which they see a submission.
        maps: The maps returned by `map` that are not over yet.
        name: The name of the function.
        priority: As given.
    """

    if not TYPE_CHECKING:
        # Two parameters or three: at run time TypeVar has defaults only since CPython 3.13.
        __class_getitem__ = classmethod(GenericAlias)

    SUBMITTED: Event[..., Any] = Event("submitted")
    WAITING: Event[[Future[Any], str], Any] = Event("waiting")
    DONE: Event[[Future[Any]], Any] = Event("done")
    RESULT: Event[[Future[Any], Any], Any] = Event("result")
    EXCEPTION: Event[[Future[Any], BaseException], Any] = Event("exception")
    CANCELLED: Event[[Future[Any]], Any] = Event("cancelled")

    on_submitted: Subscriber[Concatenate[Future[R], P], Any]
    """A call was accepted. Callbacks take the future and the arguments of `submit`."""

    on_waiting: Subscriber[[Future[R], str], Any]
    """A call could not be handed to the executor at once. Callbacks take the future and the reason, in words.

    It follows `@submitted`, and comes again for each further attempt that has to wait. `Scheduler.explain` gives the
    reason at any time. In a run with a journal it is not delivered.
    """

    on_done: Subscriber[[Future[R]], Any]
    """A call ended with a result or an exception. Callbacks take the future; `@result` or `@exception` follows."""

    on_result: Subscriber[[Future[R], R], Any]
    """A call ended with a result. Callbacks take the future and the result."""

    on_exception: Subscriber[[Future[R], BaseException], Any]
    """A call ended with an exception. Callbacks take the future and the exception.

    Afterwards `on_exception=` of `Scheduler.run` decides how the run reacts to the exception.
    """

    on_cancelled: Subscriber[[Future[R]], Any]
    """A call was cancelled, by its future's `cancel` or by the end of the run. Callbacks take the future."""

    def __init__(
        self,
        function: Callable[P, R],
        scheduler: Scheduler,
        *,
        plugins: Plugin | Iterable[Plugin] = (),
        init_plugins: bool = True,
        priority: float | None = None,
    ) -> None:
        check_computable(function, "function")
        check_bool("init_plugins", init_plugins)
        if not hasattr(scheduler, "submit_for"):
            raise TypeError(f"scheduler={scheduler!r}: must be a Scheduler")
        number = None if priority is None else check_between("priority", priority, -math.inf)
        super().__init__(callback_name(function), dispatch=scheduler.dispatch, is_replaying=scheduler.is_replaying)
        self.function = function
        self.scheduler = scheduler
        self.plugins: list[Plugin] = []
        self.maps: list[TaskMap[R]] = []
        self.priority: float | None = number
        if number is not None:
            scheduler.pools.orders_all = True
        self.pending: dict[Future[Any], None] = {}  # maintained by the run's `PendingCalls`
        self.add_event(self.SUBMITTED, self.WAITING, self.DONE, self.RESULT, self.EXCEPTION, self.CANCELLED)
        self.channels: TaskChannels = TaskChannels(*map(self.channel, self.events))
        submitted: Any = self.SUBMITTED  # shared by all tasks; this one knows its function's arguments
        self.on_submitted = Subscriber(self, submitted)
        self.on_waiting = Subscriber(self, self.WAITING)
        self.on_done = Subscriber(self, self.DONE)
        self.on_result = Subscriber(self, self.RESULT)
        self.on_exception = Subscriber(self, self.EXCEPTION)
        self.on_cancelled = Subscriber(self, self.CANCELLED)
        several = isinstance(plugins, Iterable) and not isinstance(plugins, str | type)
        given: Any = plugins if several else (plugins,)
        for plugin in given:
            self._add_plugin(plugin, attach=init_plugins)

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> S_co:
        """Submit a call of the function. May be called from any thread while the scheduler is running.

        A future of this run among the arguments, or in a list, tuple or dict there, is computed first, and the function
        receives its result. If there is none, the call ends with a `DependencyError` and is not computed. Type checkers
        want `future.as_argument()`.

        Returns:
            The future, or None if a plugin held the submission back; the plugin emits an event that says why. In a run
            with a journal, another thread gets a future in any case, since plugins see the call a little later; if one
            holds it back, that future is cancelled.

        Raises:
            SchedulerNotRunningError: Before `@start`, or after the end was requested.
            TypeError: An argument is another library's future.
            ValueError: A future among the arguments is not of this run.
        """
        if not self.plugins:
            return self.scheduler.submit_for(self, self.function, args, kwargs)  # type: ignore[return-value]
        return self.offer(args, kwargs).future  # type: ignore[return-value]

    def offer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Submit through the plugins. What `submit` does, for code that needs the call and not only its future.

        Returns:
            The call; its `future` is None if a plugin held it back. Raises as `submit` does.
        """
        if not self.plugins:
            call = Call(self, args, kwargs)
            call.future = self.scheduler.submit_for(self, self.function, args, kwargs)
            return call
        with self.scheduler.submission_lock:
            call = Call(self, args, kwargs)
            self.offer_again(call)
        return call

    def offer_again(self, call: Call) -> None:
        """Pass a call that a plugin has kept through all plugins again, and submit it if they accept it.

        Requires the scheduler's submission lock. Raises as `submit` does.
        """
        call.future = self.scheduler.check_offer(call)
        if call.future is not None:
            return  # plugins see it later, on the loop's thread
        call.begin()
        try:
            if all(plugin.prepare(call) for plugin in self.plugins):
                call.future = self.scheduler.submit_for(self, self.function, *call.given, call)
        finally:
            if call.future is None:
                self._end(call)

    def _end(self, call: Call) -> None:
        try:
            call.end()
        except Exception as error:
            if not call.kept:
                raise
            self.scheduler.report(error, f"teardown of a plugin of {self.name}")  # the submitter is not affected

    @explains_options(
        n_jobs="pass the workers to the factory, such as Scheduler.with_processes(...)",
        chunksize="leave it out: short calls are sent in batches anyway",
        timeout="pass it to results(timeout=...) or run(timeout=...)",
        ordered="give it to results(ordered=...)",
    )
    def map(self, *iterables: Iterable[Any], in_flight: int | None = None, unpack: Unpack | None = None) -> TaskMap[R]:
        """Submit the task for each item of an iterable, or of several in lockstep, like the built-in `map`.

        At most `in_flight` calls are pending at a time. The next item is taken when a call has ended, after the
        callbacks for that ending which were registered before `map` was called. So the iterable may be endless, and may
        depend on the outcomes of earlier items. Results arrive as events, in the order in which they are computed; or
        one by one in a plain loop: `for call in task.map(configs).results(): ...`.

        A call that a `Limiter` with `on_limit="queue"` keeps counts as pending. A call that a plugin refuses is offered
        again when another call has ended. Once the run is about to end no further item is taken. Items may be futures,
        or contain them, as the arguments of `submit`.

        Args:
            *iterables: The arguments of the function, one iterable for each; stops at the shortest.
            in_flight: How many calls may be pending, at least 1; None for twice the scheduler's number of workers,
                which is looked up again for each call. If that is unknown, twice the number of CPUs of this machine.
            unpack: What an item of a single iterable is: `"kwargs"` for a dict of keyword arguments, `"args"` for a
                tuple of positional arguments; None for the first argument.

        Returns:
            A handle that reports progress and has `results()` and `cancel()`. If the scheduler is not running yet, the
            first items are submitted after the next `@start`; if it is running in another thread, within a tenth of a
            second.

        Raises:
            TypeError: There is no iterable, `unpack` is given with several iterables, or `in_flight` is not an integer.
            ValueError: `in_flight` is below 1, or `unpack` has another value.
            JournalUnsupportedError: The scheduler is running in another thread, with a journal.
            Exception: What the iterable raises for its first items; later exceptions go to `on_callback_exception`.
        """
        task_map = TaskMap(self, iterables, in_flight, unpack)
        with self.scheduler.submission_lock:
            self.maps = [*(earlier for earlier in self.maps if not earlier.over), task_map]
        task_map.start()
        return task_map

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function directly, without scheduler, plugins and events."""
        return self.function(*args, **kwargs)

    @property
    def queue(self) -> list[Future[R]]:
        """The futures of this task that have not ended, oldest first."""
        return list(self.pending)

    def futures(self) -> list[Future[R]]:
        """The same as `queue`."""
        return self.queue

    @property
    def n_pending(self) -> int:
        """How many submissions of this task have not ended, whether a worker has begun them or not."""
        return len(self.pending)

    @property
    def n_running(self) -> int:
        """The same as `n_pending`, under the name that AMLTK has for it."""
        return self.n_pending

    def running(self) -> bool:
        """Whether a submission of this task has not ended."""
        return bool(self.pending)

    def attach_plugin(self, plugin: Plugin) -> None:
        """Add a plugin. It sees submissions after the existing plugins, and the task has its events from now on.

        Raises:
            TypeError: `plugin` is not a plugin.
            ValueError: The plugin belongs to another task and can serve only one.
            JournalUnsupportedError: There is a run with a journal, and this is no callback of it.
        """
        self.scheduler.check_change(f"attach a {type(plugin).__name__} to {self.name}")
        self._add_plugin(plugin, attach=True)

    def detach_plugin(self, plugin: Plugin) -> None:
        """Remove a plugin: it ends its subscriptions and sees no further submissions. The inverse of `attach_plugin`.

        It follows the calls that it has accepted to their end. Calls that a `Limiter` has kept are submitted. Its
        events remain known, and it may be attached again. May be called from any thread, unless there is a journal.

        Raises:
            ValueError: `plugin` is not a plugin of this task.
            JournalUnsupportedError: There is a run with a journal, and this is no callback of it.
        """
        self.scheduler.check_change(f"detach a {type(plugin).__name__} from {self.name}")
        with self.scheduler.submission_lock:
            if not any(other is plugin for other in self.plugins):
                names = ", ".join(other.name for other in self.plugins) or "none"
                raise ValueError(f"{_name_of(plugin)} is not a plugin of {self!r}; its plugins are: {names}")
            # Replaced, not mutated: a submission may be passing through the plugins.
            self.plugins = [other for other in self.plugins if other is not plugin]
            if hasattr(plugin, "detach_task"):  # a plugin that does not subclass Plugin may lack it
                plugin.detach_task(self)

    def _add_plugin(self, plugin: Plugin, *, attach: bool) -> None:
        if isinstance(plugin, type) or not hasattr(plugin, "prepare"):
            raise TypeError(f"plugins: {_name_of(plugin)} is no Plugin{_what_to_write(plugin)}")
        if attach:
            plugin.attach_task(self)
        self.add_event(*plugin.events())
        self.plugins.append(plugin)

    def __rich__(self) -> Any:
        """A tree of the task with its events, callbacks and plugins. Needs rich."""
        return _extras.load("amltk.display.trees", needs="rich", extra="rich").task_tree(self)

    def _repr_html_(self) -> str | None:
        """The same in a notebook; None without rich, so that the notebook shows the `repr`."""
        return _extras.html_of(self)

    if not TYPE_CHECKING:  # type checkers know the attributes that exist

        def __getattr__(self, name: str) -> Any:
            raise_attribute_error(self, name, self)

    def __repr__(self) -> str:
        plugins = f", plugins=[{', '.join(plugin.name for plugin in self.plugins)}]" if self.plugins else ""
        return f"Task({self.name}{plugins})"
