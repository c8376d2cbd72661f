"""What emits events, and subscribes callbacks to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Never, NoReturn, ParamSpec, Protocol, TypeVar, overload

from amltk.exceptions import EventNotKnownError
from amltk.scheduling.events.event import Event, P, R, canonical_name
from amltk.scheduling.events.functions import check_callback
from amltk.scheduling.events.subscription import Channel, Subscription, checked

if TYPE_CHECKING:
    from typing import Unpack

    from amltk.scheduling.events.subscription import SubscriptionOptions

Q = ParamSpec("Q")
T = TypeVar("T")
X = TypeVar("X")


class _TakesAnything(Protocol):
    def __call__(self, *args: object) -> Any: ...


class _TakesOneAndAnything(Protocol):
    def __call__(self, first: Never, /, *args: object) -> Any: ...  # whatever the type of the first one


A = TypeVar("A", bound=_TakesAnything)
B = TypeVar("B", bound=_TakesOneAndAnything)
F = TypeVar("F", bound=Callable[..., Any])

Dispatch = Callable[[Channel, tuple[Any, ...], dict[str, Any]], None]
"""How an emitter delivers an event that has subscribers."""


def deliver_now(channel: Channel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Call every subscriber at once, in order; then raise what they raised.

    Raises:
        ExceptionGroup: Several callbacks raised; the exception of a single callback is raised unchanged.
        RuntimeError: A callback is an `async def`, which only a running scheduler can await.
    """
    channel.count += 1
    errors: list[Exception] = []
    for call in channel.calls:
        try:
            result = call(*args, **kwargs)
            if isinstance(result, CoroutineType):
                result.close()
                raise RuntimeError(f"the callback {call!r} of {channel.event} is async: it needs a running scheduler")
        except Exception as error:  # noqa: BLE001 - raised below, once all were called
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExceptionGroup(f"{len(errors)} callbacks of {channel.event} raised", errors)


class Emitter:
    """Something that has events and calls their subscribers.

    Args:
        name: Used in messages.
        dispatch: How an event is delivered to its subscribers. A scheduler's emitters queue it, so that callbacks run
            one at a time on the loop's thread; the default calls the subscribers at once.
        is_replaying: Whether what is emitted now was emitted in an earlier session of a run with a journal.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        dispatch: Dispatch = deliver_now,
        is_replaying: Callable[[], bool] = bool,
    ) -> None:
        self.name: str = name if name is not None else type(self).__name__
        self._dispatch = dispatch
        self._is_replaying = is_replaying
        self._channels: dict[str, Channel] = {}
        self._unique_ref: str | None = None

    @property
    def events(self) -> list[Event[..., Any]]:
        """The events that can be subscribed to."""
        return [channel.event for channel in list(self._channels.values())]  # another thread may add one

    @property
    def event_counts(self) -> Counter[Event[..., Any]]:
        """How often each event was delivered since this emitter was created. Events that never happened are omitted."""
        return Counter({c.event: c.count for c in list(self._channels.values()) if c.count})

    def add_event(self, *events: Event[..., Any]) -> None:
        """Make events known by name and in displays. An event that is already known stays unchanged.

        Emitting an `Event` or subscribing to it makes it known as well.
        """
        for event in events:
            if not isinstance(event, Event):
                raise TypeError(f"{event!r} is not an Event; create one with Event('its-name')")
            self._channels.setdefault(event.name, Channel(event))

    @property
    def unique_ref(self) -> str:
        """A name that no other emitter has: this emitter's name and random letters. It never changes."""
        if self._unique_ref is None:
            import uuid  # few programs need it

            self._unique_ref = f"{self.name}-{uuid.uuid4().hex[:8]}"
        return self._unique_ref

    def as_event(self, key: str | Event[..., Any]) -> Event[..., Any]:
        """The event with that name. An `Event` becomes known by this.

        Raises:
            EventNotKnownError: There is no event with that name; the message lists the existing ones.
        """
        return self.channel(key).event

    def channel(self, key: str | Event[..., Any]) -> Channel:
        """The channel of an event, for code that emits often. Raises as `as_event` does."""
        channel = self._channels.get(key.name if isinstance(key, Event) else canonical_name(str(key)))
        if channel is None:
            if isinstance(key, Event):  # a misspelt name is an error; an Event object is deliberate
                return self._channels.setdefault(key.name, Channel(key))
            raise EventNotKnownError(
                f"{self.name} has no event {key!r}; it has {', '.join(repr(name) for name in self._channels)}"
            )
        return channel

    def subscriptions(self, key: str | Event[..., Any]) -> tuple[Subscription, ...]:
        """The subscriptions to an event, in the order in which they are called. Raises as `as_event` does."""
        return self.channel(key).subscriptions

    def subscriber(self, event: Event[P, R]) -> Subscriber[P, R]:
        """The object for subscribing to one event. Raises as `as_event` does."""
        return Subscriber(self, event)

    def register(
        self,
        event: Event[..., Any] | str,
        callback: Callable[..., Any],
        **options: Unpack[SubscriptionOptions],
    ) -> Subscription:
        """Call `callback` whenever `event` happens, after the callbacks that are already registered.

        Args:
            event: The event, known or not, or the name of a known event.
            callback: A function, or an `async def`, which is awaited as part of the run.
            **options: How it is called, see `SubscriptionOptions`.

        Returns:
            The subscription, which can be ended.

        Raises:
            EventNotKnownError: There is no such event.
            TypeError: `callback` or `when` is not callable, a count is not an integer, or there is no such option.
            ValueError: A count is below 1.
        """
        channel = self.channel(event)
        check_callback(callback, channel.event)
        subscription = Subscription(channel, callback, self._is_replaying, **options)
        channel.add(subscription)
        return subscription

    @overload
    def on(self, event: Event[P, R], **options: Unpack[SubscriptionOptions]) -> Subscriber[P, R]: ...
    @overload
    def on(self, event: str, **options: Unpack[SubscriptionOptions]) -> Callable[[F], F]: ...
    def on(self, event: Any, **options: Unpack[SubscriptionOptions]) -> Any:
        """Decorate a callback of `event`. Options and errors as in `register`. Returns the function unchanged."""
        return Subscriber(self, self.as_event(event), **options)

    def emit(self, event: Event[P, R], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Deliver `event` to every subscriber.

        During a run the event is queued: it is delivered after the callbacks that are running now, and what a callback
        raises goes to the run's `on_callback_exception`. Outside of a run it is delivered before `emit` returns, and
        exceptions of callbacks are raised once all were called. Raises as `as_event` does.
        """
        channel = self.channel(event)
        if channel.calls:
            self._dispatch(channel, args, kwargs)
        else:
            channel.count += 1


class _Subscribes(Protocol[P]):
    """A `Subscriber` by what it takes alone: pyright chooses no overload by a class that has overloads itself."""

    def __call__(self, callback: Callable[P, Any], /) -> Any: ...


class Subscriber(Generic[P, R]):
    """Subscribes to one event: the type of `on_...` attributes, and of what `Emitter.on` returns.

    Use it as a decorator, with or without options, or call it with a function. It returns the function unchanged, so
    decorators can be stacked.

    ```python
    @scheduler.on_start
    @scheduler.on_empty(max_calls=3)
    def refill() -> None: ...

    scheduler.on_timeout(scheduler.stop)
    ```

    To type checkers a function that takes `*_`, alone or after its first parameter, keeps its exact type, also for
    events of other kinds. Any other function is from then on known by the positions of its parameters, not by their
    names: Python's types cannot express "the given type, provided that it accepts these arguments".

    Args:
        emitter: What emits the event.
        event: The event.
        **options: How callbacks are called, see `SubscriptionOptions`.
    """

    __slots__ = ("_options", "emitter", "event")

    def __init__(self, emitter: Emitter, event: Event[P, R], **options: Unpack[SubscriptionOptions]) -> None:
        emitter.channel(event)
        self.emitter: Emitter = emitter
        self.event: Event[P, R] = event
        self._options: SubscriptionOptions | None = checked(options) if options else None  # there are many without

    @overload
    def __call__(self, callback: A, /) -> A: ...
    @overload
    def __call__(self: _Subscribes[Concatenate[X, Q]], callback: B, /) -> B: ...
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload] - of those before it, which take less
        self, callback: Callable[P, T], /
    ) -> Callable[P, T]: ...
    @overload
    def __call__(self, **options: Unpack[SubscriptionOptions]) -> Subscriber[P, R]: ...
    def __call__(self, *callbacks: Any, **options: Unpack[SubscriptionOptions]) -> Any:
        """Subscribe a callback, or return a decorator that does. Options and errors as in `Emitter.register`."""
        if len(callbacks) == 0:
            return Subscriber(self.emitter, self.event, **self._with(options))
        if len(callbacks) > 1:
            raise TypeError(f"{self.event}: subscribe one callback at a time, not {len(callbacks)}")
        self.register(callbacks[0], **options)
        return callbacks[0]

    def register(self, callback: Callable[P, Any], **options: Unpack[SubscriptionOptions]) -> Subscription:
        """Subscribe `callback` and return the subscription; see `Emitter.register`."""
        return self.emitter.register(self.event, callback, **self._with(options))

    def _with(self, options: SubscriptionOptions) -> SubscriptionOptions:
        """These options; those that are left out as this subscriber has them."""
        return options if self._options is None else {**self._options, **options}

    def emit(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Deliver the event to every subscriber; see `Emitter.emit`."""
        self.emitter.emit(self.event, *args, **kwargs)

    @property
    def event_counts(self) -> int:
        """How often the event was delivered."""
        return self.emitter.channel(self.event).count

    def __repr__(self) -> str:
        return f"<{self.emitter.name} {self.event}>"


def raise_attribute_error(owner: object, name: str, emitter: Emitter | None) -> NoReturn:
    """Raise an error saying that `owner` has no such attribute and, if an event may be meant, which ones exist.

    Raises:
        AttributeError: Always.
    """
    message = f"{type(owner).__name__!r} object has no attribute {name!r}"
    if name.startswith("on_") and emitter is not None:
        names = (f"on_{event.name.replace('-', '_')}" for event in emitter.events)
        message += f"; its events are {', '.join(names)}"
    raise AttributeError(message, name=name, obj=owner)
