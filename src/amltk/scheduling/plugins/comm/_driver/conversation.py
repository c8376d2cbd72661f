"""The driver's side of the comm of one call."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from asyncio import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk._notes import safe_repr
from amltk.exceptions import CommError
from amltk.scheduling._nested import CONTAINERS
from amltk.scheduling.call import Call, Heard
from amltk.scheduling.executors.shared import SHARED, put_in_place
from amltk.scheduling.plugins.comm import payloads
from amltk.scheduling.plugins.comm.messages import EVENTS, Msg, MsgKind, Request

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from amltk.scheduling._run.run import Run
    from amltk.scheduling.task import Task

_log = logging.getLogger(__name__)

_MAY_HOLD_SHARED = SHARED | CONTAINERS

UNKEPT = "no callback of @comm-request responded, or kept the message to respond later"
UNHEARD = "no callback is subscribed to @comm-request: answer it in one, as in @task.on('comm-request')"


class Conversation(ABC):
    """The `msg.comm` of callbacks: it talks to the call that a message came from.

    May be used from any thread, and kept for later.

    Args:
        call: The call.
        run: Its run.

    Attributes:
        is_open: Whether the call has opened its comm and not yet closed it, as far as callbacks were told.
    """

    def __init__(self, call: Call, run: Run) -> None:
        self._call = call
        self._run = run
        self._place = len(call.conversations)
        call.conversations.append(self)
        self._has_opened = False  # callbacks may not have been told yet
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
            False if the call has ended, or its comm is no longer connected. In a run with a journal, False if the comm
            is not open as far as callbacks were told.

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
        if self._as_told(answer(request)):
            return True
        _log.debug("a response to a call of %s came too late: the call had ended", self.task.name)
        return False

    def leave_unanswered(self, request: Request) -> None:
        """Note that a request will not be answered. May be called from any place, as finalizers are."""
        if request.take():
            self._fail(request, UNKEPT)

    # ------------------------------------------------------------------ for runs with a journal

    def hear_again(self, kind: str, payload: bytes | None, *, is_request: bool) -> Heard:
        """See `Conversing`."""
        load = nothing if payload is None else partial(payloads.load, payload)
        return self._heard(MsgKind(kind), load, Request(0) if is_request else None)

    def end_hold(self) -> bool:
        """See `Conversing`. For subclasses that hold ends back."""
        return False

    def go_live(self) -> None:
        """The call of an earlier session is lost: its comm is closed."""
        if self.is_open:
            self._tell(MsgKind.CLOSE, nothing)
        self.end_hold()

    def _with_shared(self, data: Any, *, is_pickled: bool = False) -> Any:
        """What the call receives for data: objects in place of the handles of shared ones.

        Args:
            data: The data.
            is_pickled: Whether it is about to be pickled.

        Raises:
            SharedObjectError: One of them is no longer shared.
        """
        if type(data) not in _MAY_HOLD_SHARED:
            return data
        scheduler = self.task.scheduler
        can = scheduler.executor_kind.capabilities
        (put,) = put_in_place((data,), scheduler.executor, can, is_pickled=is_pickled)
        return put

    def _as_told(self, was_sent: bool) -> bool:
        """What callbacks get to know: with a journal, only what they would know at a replay as well."""
        return self.is_open if self._run.is_recorded else was_sent

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
        payload: Callable[[], bytes | None] = lambda: None,
    ) -> None:
        """Deliver a message to its callbacks.

        Args:
            kind: Its kind.
            load: Returns its data.
            request: The request, if it is one.
            at_once: Return when the callbacks have returned.
            done: Called when all callbacks have finished, coroutines included.
            payload: Pickles its data, for the journal.
        """
        if kind in {MsgKind.OPEN, MsgKind.CLOSE}:
            self._has_opened = kind is MsgKind.OPEN
        heard = self._heard(kind, load, request, done)
        if request is not None and all(subscription.hidden for subscription in heard.channel.subscriptions):
            request.take()
            self._fail(request, UNHEARD)
        if self._run.is_recorded:
            heard = heard._replace(payload=payload())
        self._run.deliver(heard, at_once=at_once)

    def _heard(
        self,
        kind: MsgKind,
        load: Callable[[], Any],
        request: Request | None,
        done: Callable[[], None] = lambda: None,
    ) -> Heard:
        return Heard(
            future=self.future,
            kind=kind.value,
            place=self._place,
            payload=None,
            is_request=request is not None,
            note=partial(self._note_told, kind),
            args=(Msg(kind, self, load, request),),
            channel=self.task.channel(EVENTS[kind]),
            follower=_Telling(self, request, done),
        )

    def _note_told(self, kind: MsgKind) -> None:
        if kind in {MsgKind.OPEN, MsgKind.CLOSE}:
            self.is_open = kind is MsgKind.OPEN

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
