"""Subscriptions of callbacks to events, and the channels that have them."""

from __future__ import annotations

from threading import RLock
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypedDict, cast

from amltk._checks import check_bool, check_count, check_optional_count

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Unpack

    from amltk.scheduling.events.event import Event


class SubscriptionOptions(TypedDict, total=False):
    """How a callback is called. Each option may be left out.

    Attributes:
        when: Called each time, without arguments; if it returns False the callback is skipped. By default it is None:
            nothing is asked.
        every: Call it only for every n-th emission, at least 1, which is the default.
        repeat: Call it this many times for each emission, at least 1, which is the default; once it raises, the
            remaining calls are skipped.
        max_calls: End the subscription after this many calls, at least 1; None, the default, for no limit.
        hidden: Leave the callback out of displays; by default it is shown.
        replay: Call it, in a run with a journal, also for what an earlier session has told, which is the default. False
            is for what must not be done twice, such as lines in files, plots and mails; nothing else may depend on it.
    """

    when: Callable[[], bool] | None
    every: int
    repeat: int
    max_calls: int | None
    hidden: bool
    replay: bool


def _check_condition(name: str, value: object) -> object:
    if value is not None and not callable(value):
        raise TypeError(f"{name}={value!r}: must be callable and return a bool, or None")
    return value


_CHECKS: dict[str, Callable[[str, object], object]] = {
    "when": _check_condition,
    "every": check_count,
    "repeat": check_count,
    "max_calls": check_optional_count,
    "hidden": check_bool,
    "replay": check_bool,
}


def checked(options: SubscriptionOptions) -> SubscriptionOptions:
    """The options, with counts as integers.

    Raises:
        TypeError: There is no such option, `when` is not callable, or a count is not an integer.
        ValueError: A count is below 1.
    """
    for name, value in options.items():
        if name not in _CHECKS:
            raise TypeError(f"{name}={value!r}: not an option of a subscription; the options are {', '.join(_CHECKS)}")
    return cast("SubscriptionOptions", {name: _CHECKS[name](name, value) for name, value in options.items()})


class Subscription:
    """One callback's subscription to one event; made by `Emitter.register`, ended by `end`.

    Attributes:
        callback: The function that is called.
        hidden: Whether displays leave it out.
    """

    __slots__ = (
        "_channel",
        "_every",
        "_is_plain",
        "_is_replaying",
        "_max_calls",
        "_repeat",
        "_seen",
        "_when",
        "callback",
        "hidden",
    )

    def __init__(
        self,
        channel: Channel,
        callback: Callable[..., Any],
        is_replaying: Callable[[], bool],
        **options: Unpack[SubscriptionOptions],
    ) -> None:
        options = checked(options)
        self._channel = channel
        self.callback: Callable[..., Any] = callback
        self.hidden: bool = options.get("hidden", False)
        self._when = options.get("when")
        self._every = options.get("every", 1)
        self._repeat = options.get("repeat", 1)
        self._max_calls = options.get("max_calls")
        self._seen = 0
        self._is_replaying: Callable[[], bool] | None = None if options.get("replay", True) else is_replaying
        is_always_called = self._when is None and self._every == 1 and self._is_replaying is None
        self._is_plain = is_always_called and self._repeat == 1 and self._max_calls is None

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
        if self._is_replaying is not None and self._is_replaying():
            return None
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
