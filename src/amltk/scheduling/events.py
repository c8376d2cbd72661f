"""The vocabulary of a run: events, the callbacks that subscribe to them, and the emitters that deliver them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from inspect import CO_COROUTINE, iscoroutinefunction
from threading import RLock
from types import CoroutineType, GenericAlias
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Never, NoReturn, ParamSpec, Protocol, TypeVar, overload

from amltk._checks import check_bool, check_count, check_optional_count
from amltk._notes import safe_repr
from amltk.exceptions import EventNotKnownError

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")
X = TypeVar("X")

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    R = TypeVarWithDefault("R", default=Any)
else:
    R = TypeVar("R")


class _TakesAnything(Protocol):
    def __call__(self, *args: object) -> Any: ...


class _TakesOneAndAnything(Protocol):
    def __call__(self, first: Never, /, *args: object) -> Any: ...  # whatever the type of the first one


A = TypeVar("A", bound=_TakesAnything)
B = TypeVar("B", bound=_TakesOneAndAnything)
F = TypeVar("F", bound=Callable[..., Any])


class Decorator(Protocol[P]):
    """Subscribes a function to an event and returns it, so that decorators can be stacked.

    To type checkers a function that takes `*_`, alone or after its first parameter, keeps its exact type, also for
    events of other kinds. Any other function is from then on known by the positions of its parameters, not by their
    names: Python's types cannot express "the given type, provided that it accepts these arguments".
    """

    __slots__ = ()

    @overload
    def __call__(self, callback: A, /) -> A: ...
    @overload
    def __call__(self: Decorator[Concatenate[X, Q]], callback: B, /) -> B: ...
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload] - of those before it, which take less
        self, callback: Callable[P, T], /
    ) -> Callable[P, T]: ...
    def __call__(self, callback: Any, /) -> Any:
        """Subscribe `callback`."""


def canonical_name(name: str) -> str:
    """The canonical spelling of an event's name: `"on_future_result"` and `"@future-result"` give `"future-result"`."""
    return name.strip().lower().removeprefix("@").replace("_", "-").removeprefix("on-")


class Event(Generic[P, R]):
    """Something that can happen, typed by the arguments of its callbacks.

    The callbacks of `Event[[int]]` take one integer; a second parameter, as in `Event[[int], str]`, is what they
    return. Two events with the same name are equal.

    Args:
        name: The name; accepted with or without a leading `@` or `on`, with `-` or `_`.

    Raises:
        ValueError: The name is empty.
    """

    __slots__ = ("_hash", "name")

    def __init__(self, name: str) -> None:
        self.name: str = canonical_name(name)
        if not self.name:
            raise ValueError(f"name={name!r}: an event needs a name such as 'trial-pruned'")
        self._hash = hash(self.name)

    if not TYPE_CHECKING:
        # One parameter or two: at run time TypeVar has defaults only since CPython 3.13.
        __class_getitem__ = classmethod(GenericAlias)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self.name == other.name

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return f"@{self.name}"

    def __repr__(self) -> str:
        return f"Event({self.name!r})"


class Subscription:
    """One callback's subscription to one event; made by `Emitter.register`, ended by `end`.

    Attributes:
        callback: The function that is called.
        hidden: Whether displays leave it out.
    """

    __slots__ = ("_channel", "_every", "_is_plain", "_max_calls", "_repeat", "_seen", "_when", "callback", "hidden")

    def __init__(
        self,
        channel: Channel,
        callback: Callable[..., Any],
        *,
        when: Callable[[], bool] | None,
        every: int,
        repeat: int,
        max_calls: int | None,
        hidden: bool,
    ) -> None:
        self._channel = channel
        self.callback: Callable[..., Any] = callback
        self.hidden: bool = hidden
        self._when = when
        self._every = every
        self._repeat = repeat
        self._max_calls = max_calls
        self._seen = 0
        self._is_plain = when is None and every == 1 and repeat == 1 and max_calls is None

    @property
    def call(self) -> Callable[..., Any]:
        """The callable to call: without options the callback itself, which costs nothing extra."""
        return self.callback if self._is_plain else self._deliver_by_options

    @property
    def event(self) -> Event[..., Any]:
        """The event subscribed to."""
        return self._channel.event

    def end(self) -> None:
        """End the subscription: the callback is not called again. Calling this twice is harmless."""
        self._channel.remove(self)

    def _deliver_by_options(self, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, None] | None:
        if self._max_calls == 0:
            return None  # ended during this delivery
        self._seen += 1
        if self._seen % self._every or (self._when is not None and not self._when()):
            return None
        coroutines: list[Coroutine[Any, Any, Any]] = []
        for _ in range(self._repeat):
            if self._max_calls is not None:
                self._max_calls -= 1
                if self._max_calls == 0:
                    self.end()
            result = self.callback(*args, **kwargs)
            if isinstance(result, CoroutineType):
                coroutines.append(result)
            if self._max_calls == 0:
                break
        return _in_turn(coroutines) if coroutines else None


async def _in_turn(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> None:
    left = iter(coroutines)
    try:
        for coroutine in left:
            await coroutine
    finally:
        for coroutine in left:
            coroutine.close()


class Channel:
    """One event of one emitter: how often it was emitted, and its subscribers. Internal, kept small for speed.

    Invariant: `calls` is replaced, never mutated, so that a callback can subscribe or end a subscription without
    affecting the delivery in progress.
    """

    __slots__ = ("calls", "count", "event", "subscriptions")

    def __init__(self, event: Event[..., Any]) -> None:
        self.event: Event[..., Any] = event
        self.count: int = 0
        self.subscriptions: tuple[Subscription, ...] = ()
        self.calls: tuple[Callable[..., Any], ...] = ()

    def add(self, subscription: Subscription) -> None:
        """Call the subscriber from the next delivery on. From any thread."""
        with _subscribing:
            self._set((*self.subscriptions, subscription))

    def remove(self, subscription: Subscription) -> None:
        """Stop calling the subscriber from the next delivery on. From any thread."""
        with _subscribing:
            self._set(tuple(s for s in self.subscriptions if s is not subscription))

    def _set(self, subscriptions: tuple[Subscription, ...]) -> None:
        self.subscriptions = subscriptions
        self.calls = tuple(s.call for s in subscriptions)


_subscribing = RLock()
"""One lock for all channels, since it is held only briefly. Reentrant: the garbage collector may end a subscription."""


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
    """

    def __init__(self, name: str | None = None, *, dispatch: Dispatch = deliver_now) -> None:
        self.name: str = name if name is not None else type(self).__name__
        self._dispatch = dispatch
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
                raise TypeError(f"{event!r} is no Event; make one with Event('its-name')")
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
        *,
        when: Callable[[], bool] | None = None,
        every: int = 1,
        repeat: int = 1,
        max_calls: int | None = None,
        hidden: bool = False,
    ) -> Subscription:
        """Call `callback` whenever `event` happens, after the callbacks that are already registered.

        Args:
            event: The event, known or not, or the name of a known event.
            callback: A function, or an `async def`, which is awaited as part of the run.
            when: Called each time, without arguments; if it returns False the callback is skipped.
            every: Call it only for every n-th emission, at least 1.
            repeat: Call it this many times for each emission, at least 1; once it raises, the remaining calls are
                skipped.
            max_calls: End the subscription after this many calls, at least 1; None for no limit.
            hidden: Leave the callback out of displays.

        Returns:
            The subscription, which can be ended.

        Raises:
            EventNotKnownError: There is no such event.
            TypeError: `callback` or `when` is not callable, or a count is not an integer.
            ValueError: A count is below 1.
        """
        channel = self.channel(event)
        if not callable(callback):
            raise TypeError(f"callback={callback!r} for {channel.event}: must be callable")
        every, repeat, max_calls = _check_options(when, every, repeat, max_calls, hidden)
        subscription = Subscription(
            channel, callback, when=when, every=every, repeat=repeat, max_calls=max_calls, hidden=hidden
        )
        channel.add(subscription)
        return subscription

    @overload
    def on(
        self,
        event: Event[P, Any],
        *,
        when: Callable[[], bool] | None = ...,
        every: int = ...,
        repeat: int = ...,
        max_calls: int | None = ...,
        hidden: bool = ...,
    ) -> Decorator[P]: ...
    @overload
    def on(
        self,
        event: str,
        *,
        when: Callable[[], bool] | None = ...,
        every: int = ...,
        repeat: int = ...,
        max_calls: int | None = ...,
        hidden: bool = ...,
    ) -> Callable[[F], F]: ...
    def on(
        self,
        event: Any,
        *,
        when: Callable[[], bool] | None = None,
        every: int = 1,
        repeat: int = 1,
        max_calls: int | None = None,
        hidden: bool = False,
    ) -> Any:
        """Decorate a callback of `event`. Options and errors as in `register`. Returns the function unchanged."""
        self.channel(event)  # raise errors here, not only when the function is decorated
        _check_options(when, every, repeat, max_calls, hidden)

        def subscribe(callback: Callable[..., T]) -> Callable[..., T]:
            self.register(event, callback, when=when, every=every, repeat=repeat, max_calls=max_calls, hidden=hidden)
            return callback

        return subscribe

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


class Subscriber(Decorator[P], Generic[P, R]):
    """The type of `on_...` attributes: subscribes to one event.

    Use it as a decorator, with or without options, or call it with a function. It returns the function unchanged, so
    decorators can be stacked.

    ```python
    @scheduler.on_start
    @scheduler.on_empty(max_calls=3)
    def refill() -> None: ...

    scheduler.on_timeout(scheduler.stop)
    ```
    """

    __slots__ = ("emitter", "event")

    def __init__(self, emitter: Emitter, event: Event[P, R]) -> None:
        emitter.channel(event)
        self.emitter: Emitter = emitter
        self.event: Event[P, R] = event

    @overload
    def __call__(self, callback: A, /) -> A: ...
    @overload
    def __call__(self: Decorator[Concatenate[X, Q]], callback: B, /) -> B: ...
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload] - of those before it, which take less
        self, callback: Callable[P, T], /
    ) -> Callable[P, T]: ...
    @overload
    def __call__(
        self,
        *,
        when: Callable[[], bool] | None = ...,
        every: int = ...,
        repeat: int = ...,
        max_calls: int | None = ...,
        hidden: bool = ...,
    ) -> Decorator[P]: ...
    def __call__(self, *callbacks: Any, **options: Any) -> Any:
        """Subscribe a callback, or return a decorator that does. Options and errors as in `register`."""
        if len(callbacks) == 0:
            return self.emitter.on(self.event, **options)
        if len(callbacks) > 1:
            raise TypeError(f"{self.event}: subscribe one callback at a time, not {len(callbacks)}")
        self.register(callbacks[0], **options)
        return callbacks[0]

    def register(
        self,
        callback: Callable[P, Any],
        *,
        when: Callable[[], bool] | None = None,
        every: int = 1,
        repeat: int = 1,
        max_calls: int | None = None,
        hidden: bool = False,
    ) -> Subscription:
        """Subscribe `callback` and return the subscription; see `Emitter.register`."""
        return self.emitter.register(
            self.event, callback, when=when, every=every, repeat=repeat, max_calls=max_calls, hidden=hidden
        )

    def emit(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Deliver the event to every subscriber; see `Emitter.emit`."""
        self.emitter.emit(self.event, *args, **kwargs)

    @property
    def event_counts(self) -> int:
        """How often the event was delivered."""
        return self.emitter.channel(self.event).count

    def __repr__(self) -> str:
        return f"<{self.emitter.name} {self.event}>"


def _check_options(
    when: object, every: object, repeat: object, max_calls: object, hidden: object
) -> tuple[int, int, int | None]:
    """The checked counts."""
    if when is not None and not callable(when):
        raise TypeError(f"when={when!r}: must be callable and return a bool, or None")
    check_bool("hidden", hidden)
    return check_count("every", every), check_count("repeat", repeat), check_optional_count("max_calls", max_calls)


def check_computable(fn: object, name: str) -> None:
    """Raise a `TypeError` that names the argument `name`, unless an executor can compute `fn`."""
    code = getattr(fn, "__code__", None)
    if code is not None and not code.co_flags & CO_COROUTINE:
        return  # a plain function: the fast path, since this runs for every submission
    if not callable(fn):
        raise TypeError(f"{name}={fn!r}: must be callable")
    if iscoroutinefunction(fn):
        raise TypeError(
            f"{name}={callback_name(fn)}: must be a plain function, not an `async def`, which an executor cannot await;"
            " use it as a callback, or submit a function that calls asyncio.run() with it"
        )


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


def callback_name(callback: Callable[..., Any]) -> str:
    """A readable name of a function, for messages and displays."""
    if isinstance(owner := getattr(callback, "__self__", None), Subscription):
        return callback_name(owner.callback)  # a subscription with options is called in place of its callback
    while isinstance(callback, partial):
        callback = callback.func  # bound arguments may be long
    name = getattr(callback, "__qualname__", None) or getattr(callback, "__name__", None)
    return name.rpartition("<locals>.")[2] if isinstance(name, str) else safe_repr(callback)
