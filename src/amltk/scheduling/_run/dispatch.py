"""Calls the users' code of a run: one callback at a time, and no error keeps others from being called."""

from __future__ import annotations

import logging
import types
import weakref
from asyncio import CancelledError, current_task, sleep
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Protocol

from amltk._shield import runs_user_code
from amltk.scheduling._run.policy import ends_program
from amltk.scheduling.events import Channel, callback_name
from amltk.scheduling.future import Future

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Generator, Mapping

    from amltk.scheduling._loop.turns import Turns
    from amltk.scheduling.events import Event

    About = weakref.ref[Future[Any]] | None

_log = logging.getLogger(__name__)

NOTHING: Mapping[str, Any] = {}


class DeliveryListener(Protocol):
    """Follows one delivery. Called on the loop's thread."""

    def failed(self, error: BaseException) -> None:
        """A callback raised; the policy has been applied."""
        ...

    def begun(self, coroutine: asyncio.Task[Any]) -> None:
        """A callback is an `async def`; this is its coroutine, which ends later."""
        ...

    def told(self) -> None:
        """Every callback was called; any coroutines have begun, or are about to."""
        ...


class Delivery:
    """Calls callbacks and tracks those that are `async def`. On the loop's thread; `in_user_code` may be read anywhere.

    Owns the coroutines of callbacks until they have ended.

    Args:
        loop: The loop of the run.
        turns: Keeps track of what the coroutines wait for.
        on_error: Called with what a callback raised and a description of the callback.
        on_coroutine_end: Called, through the loop, when a coroutine of a callback has ended.

    Attributes:
        in_user_code: Whether a callback is running right now, so that a signal handler may raise in it.
    """

    __slots__ = (
        "_abandoned",
        "_coroutines",
        "_is_spawning",
        "_loop",
        "_on_coroutine_end",
        "_on_error",
        "_turns",
        "in_user_code",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turns: Turns,
        *,
        on_error: Callable[[BaseException, str], None],
        on_coroutine_end: Callable[[asyncio.Task[Any]], None],
    ) -> None:
        self._loop = loop
        self._turns = turns
        self._on_error = on_error
        self._on_coroutine_end = on_coroutine_end
        self._coroutines: dict[asyncio.Task[Any], tuple[str, Coroutine[Any, Any, Any], About]] = {}
        self._is_spawning = False
        self._abandoned = False  # coroutines run only to their first `await`
        self.in_user_code: bool = False

    @property
    def awaiting(self) -> int:
        """How many coroutines of callbacks have not ended."""
        return len(self._coroutines)

    @runs_user_code
    def tell(
        self,
        channel: Channel,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] = NOTHING,
        follower: DeliveryListener | None = None,
    ) -> None:
        """Deliver an event to its current subscribers; a follower is notified of each step."""
        channel.count += 1
        for call in channel.calls:
            try:
                self.in_user_code = True
                result = call(*args, **kwargs)
                self.in_user_code = False
            except BaseException as error:  # noqa: BLE001 - reported to the policy
                self.in_user_code = False
                self._on_error(error, _where(_name(call, channel), _about(args)))
                if follower is not None:
                    follower.failed(error)
            else:
                if result is not None and type(result) is CoroutineType:
                    coroutine = self._spawn(result, _name(call, channel), _about(args))
                    if follower is not None:
                        follower.begun(coroutine)
        if follower is not None:
            follower.told()

    def call(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], event: Event[..., Any]
    ) -> None:
        """Call one function as if it had subscribed to `event`."""
        channel = Channel(event)
        channel.calls = (fn,)
        self.tell(channel, args, kwargs)

    def _spawn(self, coroutine: Coroutine[Any, Any, Any], name: str, about: About) -> asyncio.Task[Any]:
        self._is_spawning = True
        task = self._loop.create_task(self._attend(coroutine, name, about), name=name)
        self._is_spawning = False
        self._coroutines[task] = (name, coroutine, about)
        self._turns.at(task, None)
        task.add_done_callback(self._on_coroutine_end)
        if self._abandoned:
            self._loop.call_soon(task.cancel)  # takes effect after its first step
        return task

    async def _attend(self, coroutine: Coroutine[Any, Any, Any], name: str, about: About) -> None:
        if self._is_spawning:
            # The loop's tasks are eager. This callback must not run within the delivery to the others.
            await sleep(0)
        task = current_task()
        assert task is not None
        try:
            await self._step_through(coroutine, task, name, about)
        finally:
            del task  # a reference cycle: task, exception, traceback, this frame

    @runs_user_code
    @types.coroutine
    def _step_through(
        self, coroutine: Coroutine[Any, Any, Any], task: asyncio.Task[Any], name: str, about: About
    ) -> Generator[Any, Any, None]:
        """Await the coroutine of a callback and note when its code is running.

        `KeyboardInterrupt` and `SystemExit` are reported like anything else: they would tear the loop, which others may
        share.
        """
        resume: Callable[[Any], Any] = coroutine.send
        value: Any = None
        awaited: Any = None
        try:
            while True:
                self.in_user_code = True
                try:
                    awaited = resume(value)
                except StopIteration:
                    return
                except (KeyboardInterrupt, SystemExit) as error:
                    self._on_error(error, _where(name, about))
                    return
                except CancelledError as error:
                    if ends_program(error):
                        raise  # it was cancelled, or awaited something that was
                    self._on_error(error, _where(name, about))  # raised by a call that it awaited
                    return
                finally:
                    self.in_user_code = False
                self._turns.at(task, awaited)
                try:
                    value = yield awaited
                    resume = coroutine.send
                except BaseException as error:  # noqa: BLE001 - thrown into the coroutine
                    self._turns.interrupted(task)
                    value = error
                    resume = coroutine.throw
        finally:
            del task, value, awaited  # reference cycles: the traceback refers to this frame

    def finish(self, task: asyncio.Task[Any]) -> None:
        """Note that a coroutine has ended, and report what it raised.

        A cancellation is not an error: the coroutine awaited a cancelled future, which has its own event and policy, or
        the run was abandoned.
        """
        self._turns.over(task)
        name, coroutine, about = self._coroutines.pop(task, ("", None, None))
        if coroutine is None:
            return  # it was given up
        coroutine.close()  # it may never have begun
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(error, _where(name, about))

    def coroutine_of(self, task: asyncio.Task[Any]) -> Coroutine[Any, Any, Any] | None:
        """The coroutine of a callback that this task awaits."""
        return self._coroutines[task][1] if task in self._coroutines else None

    def cancel_coroutines(self) -> None:
        """Cancel the coroutines that have not ended; each still ends, through the loop.

        Coroutines that callbacks begin from now on run only to their first wait.
        """
        self._abandoned = True
        for task in self._coroutines:
            task.cancel()

    def accept_coroutines(self) -> None:
        """Let coroutines that begin from now on wait again."""
        self._abandoned = False

    def give_up(self) -> None:
        """Forget the coroutines that refuse to end."""
        for name, *_ in self._coroutines.values():
            _log.warning("the %s did not end although it was cancelled; the run no longer waits for it", name)
        for task in self._coroutines:
            self._turns.over(task)
        self._coroutines.clear()


def _name(call: Callable[..., Any], channel: Channel) -> str:
    return f"callback {callback_name(call)} of {channel.event}"


def _about(args: tuple[Any, ...]) -> About:
    """The call that an event is about. A weak reference, since a coroutine may run for long."""
    return weakref.ref(args[0]) if args and isinstance(args[0], Future) else None


def _where(name: str, about: About) -> str:
    """The callback and the call that it was called for, for messages."""
    future = None if about is None else about()
    return name if future is None else f"{name} for {future.label}"
