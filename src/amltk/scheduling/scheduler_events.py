"""The events of a scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from amltk.scheduling.events import Event, Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from amltk.scheduling.events import Emitter, SubscriptionOptions
    from amltk.scheduling.future import Future

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound="Callable[..., Any]")

STOP_MESSAGE = "stop() was called"
"""The message of `@stop` if no reason was given."""


class SchedulerEvents:
    """The events that a `Scheduler` emits: each is a constant, and an attribute to subscribe with.

    Args:
        emitter: The emitter of the events.

    Attributes:
        emitter: The emitter of the events.
    """

    STARTED: Event[[], Any] = Event("start")
    FINISHING: Event[[], Any] = Event("finishing")
    FINISHED: Event[[], Any] = Event("finished")
    STOP: Event[[str, BaseException | None], Any] = Event("stop")
    TIMEOUT: Event[[], Any] = Event("timeout")
    EMPTY: Event[[], Any] = Event("empty")
    FUTURE_SUBMITTED: Event[[Future[Any]], Any] = Event("future-submitted")
    FUTURE_DONE: Event[[Future[Any]], Any] = Event("future-done")
    FUTURE_RESULT: Event[[Future[Any], Any], Any] = Event("future-result")
    FUTURE_EXCEPTION: Event[[Future[Any], BaseException], Any] = Event("future-exception")
    FUTURE_CANCELLED: Event[[Future[Any]], Any] = Event("future-cancelled")

    on_start: Subscriber[[], Any]
    """The run has begun. Always the first event: nothing can be submitted before it.

    ```python
    @scheduler.on_start
    def launch() -> None: ...
    ```
    """

    on_finishing: Subscriber[[], Any]
    """The run is about to end: nothing more can be submitted; pending futures still end.

    Delivered after `@stop` or `@timeout`, if one of them is the reason.

    ```python
    @scheduler.on_finishing
    def save() -> None: ...
    ```
    """

    on_finished: Subscriber[[], Any]
    """The run has ended. Always the last event: every future has ended and the executor is shut down.

    ```python
    @scheduler.on_finished
    def report() -> None: ...
    ```
    """

    on_stop: Subscriber[[str, BaseException | None], Any]
    """The run ends because of `stop`, an exception, a cancellation or a signal. `@finishing` follows.

    Callbacks take a message that gives the reason, and the exception or None.

    ```python
    @scheduler.on_stop
    def why(message: str, exception: BaseException | None) -> None: ...
    ```
    """

    on_timeout: Subscriber[[], Any]
    """The run ends because its `timeout=` was reached. `@finishing` follows.

    ```python
    @scheduler.on_timeout
    def note() -> None: ...
    ```
    """

    on_empty: Subscriber[[], Any]
    """Nothing is pending any more: the last future has ended, or `@start` submitted nothing.

    Its callbacks may submit more. If they do not, the run ends, unless `end_on_empty=False`. It is not emitted for
    futures that end after the end of the run was requested.

    ```python
    @scheduler.on_empty
    def refill() -> None: ...
    ```
    """

    on_future_submitted: Subscriber[[Future[Any]], Any]
    """A submission was accepted. Callbacks take its future.

    ```python
    @scheduler.on_future_submitted
    def count(future: asyncio.Future) -> None: ...
    ```
    """

    on_future_done: Subscriber[[Future[Any]], Any]
    """A future ended with a result or an exception. `@future-result` or `@future-exception` follows.

    Callbacks take the future. It is not emitted for cancelled futures.

    ```python
    @scheduler.on_future_done
    def next_one(future: asyncio.Future) -> None: ...
    ```
    """

    on_future_result: Subscriber[[Future[Any], Any], Any]
    """A future ended with a result. Callbacks take the future and the result.

    ```python
    @scheduler.on_future_result
    def use(future: asyncio.Future, result: object) -> None: ...
    ```
    """

    on_future_exception: Subscriber[[Future[Any], BaseException], Any]
    """A future ended with an exception. Callbacks take the future and the exception.

    Afterwards `on_exception=` of `run` decides how the run reacts to the exception.

    ```python
    @scheduler.on_future_exception
    def record(future: asyncio.Future, exception: BaseException) -> None: ...
    ```
    """

    on_future_cancelled: Subscriber[[Future[Any]], Any]
    """A future was cancelled, by its `cancel` or by the end of the run. Callbacks take the future.

    ```python
    @scheduler.on_future_cancelled
    def give_back(future: asyncio.Future) -> None: ...
    ```
    """

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        emitter.add_event(
            *(self.STARTED, self.FINISHING, self.FINISHED, self.STOP, self.TIMEOUT, self.EMPTY),
            *(self.FUTURE_SUBMITTED, self.FUTURE_DONE, self.FUTURE_RESULT),
            *(self.FUTURE_EXCEPTION, self.FUTURE_CANCELLED),
        )
        self.on_start = Subscriber(emitter, self.STARTED)
        self.on_finishing = Subscriber(emitter, self.FINISHING)
        self.on_finished = Subscriber(emitter, self.FINISHED)
        self.on_stop = Subscriber(emitter, self.STOP)
        self.on_timeout = Subscriber(emitter, self.TIMEOUT)
        self.on_empty = Subscriber(emitter, self.EMPTY)
        self.on_future_submitted = Subscriber(emitter, self.FUTURE_SUBMITTED)
        self.on_future_done = Subscriber(emitter, self.FUTURE_DONE)
        self.on_future_result = Subscriber(emitter, self.FUTURE_RESULT)
        self.on_future_exception = Subscriber(emitter, self.FUTURE_EXCEPTION)
        self.on_future_cancelled = Subscriber(emitter, self.FUTURE_CANCELLED)

    @overload
    def on(self, event: Event[P, R], **options: Unpack[SubscriptionOptions]) -> Subscriber[P, R]: ...
    @overload
    def on(self, event: str, **options: Unpack[SubscriptionOptions]) -> Callable[[F], F]: ...
    def on(self, event: Any, **options: Unpack[SubscriptionOptions]) -> Any:
        """Decorate a callback of an event that is only known by its name, as `Task.on` does.

        ```python
        @scheduler.on("future-result", every=10)
        def use(future: asyncio.Future, result: object) -> None: ...
        ```

        Args:
            event: The name of one of these events, or an event of your own.
            **options: How the callback is called, see `SubscriptionOptions`.

        Returns:
            A decorator that returns the function unchanged.

        Raises:
            EventNotKnownError: There is no event of that name; the message lists those that there are.
            TypeError: The callback is not callable, a count is not an integer, or there is no such option.
            ValueError: A count is below 1.
        """
        return self.emitter.on(event, **options)
