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

    from amltk.scheduling._run.run import Run
    from amltk.scheduling.call import Call
    from amltk.scheduling.task import Task

_log = logging.getLogger(__name__)

UNKEPT = "no callback of @comm-request responded, or kept the message to respond later"
UNHEARD = "no callback is subscribed to @comm-request: answer it in one, as in @task.on('comm-request')"


class Conversation(ABC):
    """The `msg.comm` of callbacks: it talks to the call that a message came from.

    May be used from any thread, and kept for later.

    Args:
        call: The call.
        run: Its run.

    Attributes:
        is_open: Whether the call has opened its comm and not yet closed it.
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
        """The future that `submit` returned for the call."""
        assert self._call.future is not None  # it was submitted before it could send anything
        return self._call.future

    # ------------------------------------------------------------------ from users to the call

    @abstractmethod
    def send(self, data: Any) -> bool:
        """Send a message to the call, which reads it with `comm.receive()`.

        Returns:
            False if the call has ended, or its comm is no longer connected.

        Raises:
            CommError: The call does not read its messages, and many are already waiting.
            Exception: The data cannot be pickled.
        """

    @abstractmethod
    def close(self, reason: str = "") -> bool:
        """Ask the call to finish: its next use of the comm raises `Comm.CloseRequestError`.

        The call can still receive earlier messages.

        Args:
            reason: The message of that error.

        Returns:
            False if the call has ended, or its comm is no longer connected.
        """

    def respond(self, request: Request, response: Any) -> bool:
        """See `Msg.respond`, which calls this."""
        answer = self._answer_with(response)
        if not request.take():
            raise CommError("this request was answered before, or failed because no callback seemed to answer it")
        if answer(request):
            return True
        _log.debug("a response to a call of %s came too late: the call had ended", self.task.name)
        return False

    def leave_unanswered(self, request: Request) -> None:
        """Note that a request will not be answered. May be called from any place, as finalizers are."""
        if request.take():
            self._fail(request, UNKEPT)

    # ------------------------------------------------------------------ for subclasses

    @abstractmethod
    def _answer_with(self, response: Any) -> Callable[[Request], bool]:
        """Prepare a response; the returned function sends it to a request, and returns False if the call is gone.

        Raises:
            Exception: The response cannot be pickled.
        """

    @abstractmethod
    def _fail(self, request: Request, reason: str) -> None:
        """Make a request raise. May be called from any place."""

    # ------------------------------------------------------------------ delivery, on the loop's thread

    def _tell(
        self,
        kind: MsgKind,
        load: Callable[[], Any],
        request: Request | None = None,
        *,
        at_once: bool = False,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        """Deliver a message to its callbacks; `done` is called when all have finished, coroutines included."""
        if kind in {MsgKind.OPEN, MsgKind.CLOSE}:
            self.is_open = kind is MsgKind.OPEN
        channel = self.task.channel(EVENTS[kind])
        if request is not None and all(subscription.hidden for subscription in channel.subscriptions):
            request.take()
            self._fail(request, UNHEARD)
        telling = _Telling(self, request, done)
        self._run.deliver(channel, (Msg(kind, self, load, request),), telling, at_once=at_once)

    def give_up(self, request: Request, error: BaseException) -> None:
        """Note that a callback failed which might have answered a request."""
        if request.take():
            self._fail(request, f"a callback of @comm-request raised {safe_repr(error)}")


class _Telling:
    """Follows one message through its callbacks: a `DeliveryListener`."""

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
