"""The driver's side of the comm of one call."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from amltk._notes import safe_repr
from amltk.exceptions import CommError
from amltk.scheduling.plugins.comm.messages import EVENTS, Msg, MsgKind, Request

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from amltk.scheduling.call import Call
    from amltk.scheduling.run import Run
    from amltk.scheduling.task import Task

_log = logging.getLogger(__name__)

UNKEPT = "no callback of @comm-request has responded, and none has kept the message to respond later"
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

    def respond(self, request: Request, response: Any) -> bool:
        """See `Msg.respond`, which calls this."""
        answer = self._answer_with(response)
        if not request.take():
            raise CommError("this request was answered before, or was given up because nobody seemed to answer it")
        if answer(request):
            return True
        _log.debug("a response to a call of %s came too late: the call has ended", self.task.name)
        return False

    def leave_unanswered(self, request: Request) -> None:
        """Take note that nobody is going to answer a request. May be called from anywhere, as finalizers are."""
        if request.take():
            self._fail(request, UNKEPT)

    # ------------------------------------------------------------------ what a subclass says

    @abstractmethod
    def _answer_with(self, response: Any) -> Callable[[Request], bool]:
        """Make a response ready; returns what gives it to a request, if the call is still there.

        Raises:
            Exception: It cannot be pickled.
        """

    @abstractmethod
    def _fail(self, request: Request, reason: str) -> None:
        """Have a request raise. May be called from anywhere."""

    # ------------------------------------------------------------------ telling, on the loop's thread

    def _tell(
        self,
        kind: MsgKind,
        load: Callable[[], Any],
        request: Request | None = None,
        *,
        at_once: bool = False,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        """Have callbacks called; `done` is called when they have dealt with it, coroutines included."""
        if kind in {MsgKind.OPEN, MsgKind.CLOSE}:
            self.is_open = kind is MsgKind.OPEN
        channel = self.task.channel(EVENTS[kind])
        if request is not None and all(subscription.hidden for subscription in channel.subscriptions):
            request.take()
            self._fail(request, UNHEARD)
        telling = _Telling(self, request, done)
        self._run.deliver(channel, (Msg(kind, self, load, request),), telling, at_once=at_once)

    def give_up(self, request: Request, error: BaseException) -> None:
        """Take note that a callback has failed which may have been to answer a request."""
        if request.take():
            self._fail(request, f"a callback of @comm-request raised {safe_repr(error)}")


class _Telling:
    """Follows one message through its callbacks: a `Follower`."""

    __slots__ = ("_conversation", "_done", "_error", "_left", "_request")

    def __init__(self, conversation: Conversation, request: Request | None, done: Callable[[], None]) -> None:
        self._conversation = conversation
        self._request = request
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
        if self._error is not None and self._request is not None:
            self._conversation.give_up(self._request, self._error)
        self._error = None
        self._done()


def nothing() -> None:
    """The data of the closing of a comm that its call has not closed."""
