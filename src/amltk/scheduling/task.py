"""One function, submitted many times, with events of its own."""

from __future__ import annotations

from collections.abc import Iterable
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar

from amltk import _extras
from amltk._checks import check_bool, explains_options
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

    # What `submit` returns: always a future where no plugin can hold a call back.
    S_co = TypeVarWithDefault("S_co", bound="Future[Any] | None", default="Future[R] | None", covariant=True)
else:
    S_co = TypeVar("S_co", covariant=True)


def _name_of(plugin: object) -> str:
    return plugin.__name__ if isinstance(plugin, type) else safe_repr(plugin)


def _what_to_write(plugin: object) -> str:
    """The remedy, where something was given in the place of a plugin that one can guess."""
    kind = plugin if isinstance(plugin, type) else type(plugin)
    if hasattr(kind, "Plugin"):
        return f": write plugins={kind.__name__}.Plugin()"  # a comm, of which each call has one
    if kind is plugin and hasattr(kind, "prepare"):
        return f", but a class of them: write plugins={kind.__name__}(...)"
    return ": write for instance plugins=Limits(wall_time=60), or a list of plugins"


class TaskChannels(NamedTuple):
    """The channels that a run tells of, looked up once."""

    submitted: Channel
    done: Channel
    result: Channel
    exception: Channel
    cancelled: Channel


class Task(Emitter, Generic[P, R, S_co]):
    """A function to be computed by a scheduler, with events for its own submissions only. Made by `Scheduler.task`.

    For each submission `@submitted` is followed by exactly one ending: `@done` and then `@result` or `@exception`, or
    `@cancelled`. The scheduler's own events for the same future come before the task's.

    Calling the task calls the function, here and now, without the scheduler.

    Args:
        function: What is computed.
        scheduler: Who computes it.
        plugins: One plugin or several; see `attach_plugin`.
        init_plugins: Whether the plugins get to know the task now; if not, call their `attach_task` before the first
            submission.

    Raises:
        TypeError: `function` is not callable.

    Attributes:
        function: What is computed.
        scheduler: Who computes it.
        plugins: The plugins, in the order in which they are asked.
        maps: What `map` has returned and is not over.
        name: The name of the function.
    """

    if not TYPE_CHECKING:
        # Two parameters or three: TypeVar has defaults at run time only from CPython 3.13 on.
        __class_getitem__ = classmethod(GenericAlias)

    SUBMITTED: Event[..., Any] = Event("submitted")
    DONE: Event[[Future[Any]], Any] = Event("done")
    RESULT: Event[[Future[Any], Any], Any] = Event("result")
    EXCEPTION: Event[[Future[Any], BaseException], Any] = Event("exception")
    CANCELLED: Event[[Future[Any]], Any] = Event("cancelled")

    on_submitted: Subscriber[Concatenate[Future[R], P], Any]
    """A call was accepted. Callbacks take the future and the arguments that `submit` was called with."""

    on_done: Subscriber[[Future[R]], Any]
    """A call has ended with a result or an exception. Callbacks take the future; `@result` or `@exception` follows."""

    on_result: Subscriber[[Future[R], R], Any]
    """A call has ended with a result. Callbacks take the future and the result."""

    on_exception: Subscriber[[Future[R], BaseException], Any]
    """A call has ended with an exception. Callbacks take the future and the exception.

    What the exception does to the run is decided afterwards, by `on_exception=` of `Scheduler.run`.
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
    ) -> None:
        check_computable(function, "function")
        check_bool("init_plugins", init_plugins)
        if not hasattr(scheduler, "submit_for"):
            raise TypeError(f"scheduler={scheduler!r}: must be a Scheduler")
        super().__init__(callback_name(function), dispatch=scheduler.dispatch)
        self.function = function
        self.scheduler = scheduler
        self.plugins: list[Plugin] = []
        self.maps: list[TaskMap[R]] = []
        self.pending: dict[Future[Any], None] = {}  # kept by the pending calls of the run
        self.add_event(self.SUBMITTED, self.DONE, self.RESULT, self.EXCEPTION, self.CANCELLED)
        self.channels: TaskChannels = TaskChannels(*map(self.channel, self.events))
        submitted: Any = self.SUBMITTED  # of any task; this one knows the arguments of its function
        self.on_submitted = Subscriber(self, submitted)
        self.on_done = Subscriber(self, self.DONE)
        self.on_result = Subscriber(self, self.RESULT)
        self.on_exception = Subscriber(self, self.EXCEPTION)
        self.on_cancelled = Subscriber(self, self.CANCELLED)
        several = isinstance(plugins, Iterable) and not isinstance(plugins, str | type)
        given: Any = plugins if several else (plugins,)
        for plugin in given:
            self._add_plugin(plugin, attach=init_plugins)

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> S_co:
        """Have the function computed. May be called from any thread while the scheduler is running.

        Returns:
            The future, or None if a plugin held the submission back; an event of the plugin says why.

        Raises:
            SchedulerNotRunningError: Before `@start`, or after an end was asked for.
        """
        if not self.plugins:
            return self.scheduler.submit_for(self, self.function, args, kwargs)  # type: ignore[return-value]
        return self.offer(args, kwargs).future  # type: ignore[return-value]

    def offer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Submit through the plugins; what `submit` does, for code that has to know what became of the call.

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
        """Ask all plugins about a call that one of them has kept, and submit it if they let it pass.

        Only under the scheduler's submission lock. Raises as `submit` does.
        """
        self.scheduler.check_running(f"submit {self.name}")
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
            self.scheduler.report(error, f"teardown of a plugin of {self.name}")  # to the submitter all is well

    @explains_options(
        n_jobs="give the workers to the factory, such as Scheduler.with_processes(...)",
        chunksize="leave it out: short calls travel together anyway",
        timeout="give it to results(timeout=...) or run(timeout=...)",
        ordered="give it to results(ordered=...)",
    )
    def map(self, *iterables: Iterable[Any], in_flight: int | None = None, unpack: Unpack | None = None) -> TaskMap[R]:
        """Submit the task for each item of an iterable, or of several side by side, as the built-in `map` calls.

        At most `in_flight` of them are pending at a time; the next item is taken when one has ended, after the
        callbacks of that ending which were registered before this call. So the iterable may be endless, and may
        depend on what came of earlier items. Results come by events, in the order in which they are computed; or one by
        one, for a plain loop: `for call in task.map(configs).results(): ...`.

        What a `Limiter` with `on_limit="queue"` keeps counts as pending; what a plugin refuses is tried again when
        another call has ended. When the run is about to end no further item is taken.

        Args:
            *iterables: For the arguments of the function; it ends with the shortest.
            in_flight: How many may be pending, at least 1; None for twice the number of workers that the scheduler has,
                which is looked up again for each call; where they are not known, twice the CPUs of this machine.
            unpack: What an item of the one iterable is: `"kwargs"` for a dict of the keyword arguments, `"args"` for a
                tuple of the arguments; None for the first argument.

        Returns:
            A handle that tells how far it is, with `results()` and `cancel()`. If the scheduler is not running yet, it
            begins after the next `@start`; if it is running in another thread, within a tenth of a second.

        Raises:
            TypeError: There is no iterable, or several and `unpack`, or `in_flight` is no whole number.
            ValueError: `in_flight` is below 1, or there is no such `unpack`.
            Exception: What the iterable raises at its first items; later it goes to `on_callback_exception`.
        """
        task_map = TaskMap(self, iterables, in_flight, unpack)
        with self.scheduler.submission_lock:
            self.maps = [*(earlier for earlier in self.maps if not earlier.over), task_map]
        task_map.start()
        return task_map

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now, without scheduler, plugins and events."""
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
        """Add a plugin: it is asked after those that are there, and its events are the task's from now on.

        Raises:
            TypeError: It is no plugin.
            ValueError: The plugin belongs to another task and can serve one only.
        """
        self._add_plugin(plugin, attach=True)

    def detach_plugin(self, plugin: Plugin) -> None:
        """Take a plugin away: it is asked no more, and has ended its subscriptions. The inverse of `attach_plugin`.

        Calls that it has let pass are followed by it to their end, and what a `Limiter` has kept is submitted. Its
        events stay known, and it may be attached again. May be called from any thread.

        Raises:
            ValueError: It is no plugin of this task.
        """
        with self.scheduler.submission_lock:
            if not any(other is plugin for other in self.plugins):
                names = ", ".join(other.name for other in self.plugins) or "none"
                raise ValueError(f"{_name_of(plugin)} is no plugin of {self!r}; its plugins are: {names}")
            # Not changed, but replaced: a submission may be on its way through them.
            self.plugins = [other for other in self.plugins if other is not plugin]
            if hasattr(plugin, "detach_task"):  # one that is no subclass of Plugin may have no such method
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

    if not TYPE_CHECKING:  # checkers know the attributes that there are

        def __getattr__(self, name: str) -> Any:
            raise_attribute_error(self, name, self)

    def __repr__(self) -> str:
        plugins = f", plugins=[{', '.join(plugin.name for plugin in self.plugins)}]" if self.plugins else ""
        return f"Task({self.name}{plugins})"
