"""The driver's side of the comm of one call."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from amltk.exceptions import CommError
from amltk.scheduling.events import safe_repr
from amltk.scheduling.plugins.comm.messages import EVENTS, Msg, MsgKind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from amltk.scheduling.call import Call
    from amltk.scheduling.run import Run
    from amltk.scheduling.task import Task

_log = logging.getLogger(__name__)

UNKEPT = "no callback of @comm-request has responded, and none has kept the message to respond later"
CLOSED = "a callback has closed the comm: the call is to come to its end"
UNHEARD = "nobody has subscribed to @comm-request: answer it in a callback, as in @task.on('comm-request')"


class Conversation(ABC):
    """What callbacks know as `msg.comm`: it says something to the call that a message comes from.

    May be used from any thread, and be kept for later.

    Args:
        call: The call.
        run: Its run.

    Attributes:
        is_open: Whether the call has opened its comm and not closed it.
    """

    def __init__(self, call: Call, run: Run) -> None:
        self._call = call
        self._run = run
        self._unanswered: dict[int, None] = {}  # the numbers of requests
        self.is_open: bool = False

    @property
    def task(self) -> Task[..., Any]:
        """The task that the call belongs to."""
        task: Task[..., Any] = self._call.task
        return task

    @property
    def future(self) -> asyncio.Future[Any]:
        """The future of the call, as `submit` returned it."""
        assert self._call.future is not None  # it was submitted before it could say something
        return self._call.future

    # ------------------------------------------------------------------ what users say to the call

    @abstractmethod
    def send(self, data: Any) -> bool:
        """Send something to the call, which takes it with `comm.receive()`.

        Returns:
            False if the call has ended, or its comm is not connected any more.

        Raises:
            CommError: The call does not read what it is sent, and much of that waits already.
            Exception: It cannot be pickled.
        """

    @abstractmethod
    def close(self, reason: str = "") -> bool:
        """Ask the call to come to its end: its next use of the comm raises `Comm.CloseRequestError`.

        What was sent to it before can still be received.

        Args:
            reason: The text of that error.

        Returns:
            False if the call has ended, or its comm is not connected any more.
        """

    def respond(self, number: int, response: Any) -> bool:
        """See `Msg.respond`, which calls this."""
        answer = self._answer_with(response)
        if not self._take(number):
            raise CommError("this request was answered before, or was given up because nobody seemed to answer it")
        if answer(number):
            return True
        _log.warning("a response to a call of %s came too late: the call has ended", self.task.name)
        return False

    def leave_unanswered(self, number: int) -> None:
        """Take note that nobody is going to answer a request. May be called from anywhere, as finalizers are."""
        if self._take(number):
            self._fail(number, UNKEPT)

    # ------------------------------------------------------------------ what a subclass says

    @abstractmethod
    def _answer_with(self, response: Any) -> Callable[[int], bool]:
        """Make a response ready; returns what sends it to the request of a number, if the call is still there.

        Raises:
            Exception: It cannot be pickled.
        """

    @abstractmethod
    def _fail(self, number: int, reason: str) -> None:
        """Have a request raise. May be called from anywhere."""

    # ------------------------------------------------------------------ telling, on the loop's thread

    def _tell(
        self,
        kind: MsgKind,
        load: Callable[[], Any],
        number: int = 0,
        *,
        at_once: bool = False,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        """Have callbacks called; `done` is called when they have dealt with it, coroutines included."""
        if number:
            self._unanswered[number] = None
        channel = self.task.channel(EVENTS[kind])
        if number and all(subscription.hidden for subscription in channel.subscriptions):
            self._take(number)
            self._fail(number, UNHEARD)
        telling = _Telling(self, number, done)
        self._run.deliver(channel, (Msg(kind, self, load, number),), telling, at_once=at_once)

    def _was_raised(self, number: int, error: BaseException) -> None:
        """Take note that a callback has failed which may have been to answer a request."""
        if self._take(number):
            self._fail(number, f"a callback of @comm-request raised {safe_repr(error)}")

    def _take(self, number: int) -> bool:
        """Whether the caller is the one to answer a request: whoever comes first."""
        return self._unanswered.pop(number, self) is None


class _Telling:
    """Follows one message through its callbacks: a `Follower`."""

    __slots__ = ("_conversation", "_done", "_error", "_left", "_number")

    def __init__(self, conversation: Conversation, number: int, done: Callable[[], None]) -> None:
        self._conversation = conversation
        self._number = number
        self._done = done
        self._left = 1  # the delivery itself, and each coroutine
        self._error: BaseException | None = None

    def failed(self, error: BaseException) -> None:
        self._error = error

    def begun(self, coroutine: asyncio.Task[Any]) -> None:
        self._left += 1
        coroutine.add_done_callback(self._ended)

    def _ended(self, coroutine: asyncio.Task[Any]) -> None:
        self._error = CancelledError() if coroutine.cancelled() else (coroutine.exception() or self._error)
        self.told()

    def told(self) -> None:
        self._left -= 1
        if self._left:
            return
        if self._error is not None and self._number:
            self._conversation._was_raised(self._number, self._error)
        self._error = None
        self._done()
