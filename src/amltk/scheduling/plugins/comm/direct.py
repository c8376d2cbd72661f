"""A comm without a connection: for calls that are made on the run's own thread."""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from amltk.exceptions import CloseRequestError, CommClosedError, CommConnectError, CommError, CommTimeoutError
from amltk.scheduling.plugins.comm.conversation import Conversation, nothing
from amltk.scheduling.plugins.comm.messages import MsgKind, Request
from amltk.scheduling.plugins.comm.protocol import CLOSED, GONE, OVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.call import Call, Outcome
    from amltk.scheduling.run import Run

HELD = "the call holds the run's thread, as calls of a SequentialExecutor do, so that {} cannot come later"


class DirectConversation(Conversation):
    """Both sides of the comm of a call on the loop's thread: what it says has been answered when it has been told.

    The data of messages are the very objects. To the call this is a `Link`.
    """

    def __init__(self, call: Call, run: Run) -> None:
        super().__init__(call, run)
        self._numbers = itertools.count(1)
        self._answers: dict[int, Callable[[], Any]] = {}
        self._messages: deque[Any] = deque()
        self._over: Exception | None = None  # why nothing can be said any more
        self._thread: int | None = None
        self._pid = os.getpid()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a comm of a SequentialExecutor cannot leave its thread: leave out Limits and the like, or use"
            " Scheduler.with_processes()"
        )

    # ------------------------------------------------------------------ to the call

    def connect(self) -> DirectConversation:
        """Begin; the thread that does is the only one that can use it.

        Raises:
            CommConnectError: The call was cancelled, or this is a fork.
        """
        if os.getpid() != self._pid:
            raise CommConnectError(
                "a comm of a SequentialExecutor cannot be opened by a fork of its process, which nobody hears; use"
                " Scheduler.with_processes()"
            )
        if self.future.cancelled():
            raise CommConnectError(OVER)
        self._thread = threading.get_ident()
        self._over = None
        self._messages.clear()
        return self

    def is_here(self) -> bool:
        """Whether this is the process of the run: that of every thread that gets as far as this."""
        return True

    def tell(self, kind: MsgKind, data: Any) -> None:
        """Have callbacks called before this returns. Raises as a `Link` does."""
        if kind is not MsgKind.CLOSE:  # which is said also when a callback has asked for it
            self._check()
        elif not self.is_open:
            return  # it was cancelled
        self._tell(kind, lambda: data, at_once=True)

    def request(self, data: Any, _timeout: float | None) -> Any:
        """Have callbacks called, and return what one of them responds; there is nothing to wait for.

        Raises:
            CloseRequestError: None has.
        """
        self._check()
        request = Request(next(self._numbers))
        self._tell(MsgKind.REQUEST, lambda: data, request, at_once=True)
        if request.take():
            raise CloseRequestError(f"no callback of @comm-request has responded, and {HELD.format('a response')}")
        return self._answers.pop(request.number)()

    def receive(self, _timeout: float | None) -> Any:
        """What a callback has sent.

        Raises:
            CommTimeoutError: Nothing, and there is nothing to wait for.
        """
        if not self._messages:
            self._check()
            raise CommTimeoutError(f"no message is there, and {HELD.format('one')}")
        return self._messages.popleft()

    def poll(self) -> bool:
        """Whether a callback has sent something."""
        if not self._messages:
            self._check()
        return bool(self._messages)

    def end(self) -> None:
        """Take note that the call has ended."""
        self._over = CommClosedError("the call that this comm belongs to has ended")

    def _check(self) -> None:
        if threading.get_ident() != self._thread:
            raise CommError("on a SequentialExecutor only the thread of the call itself can use its comm")
        if self._over is not None:
            raise type(self._over)(*self._over.args)  # a new one: its traceback has this frame, and would keep itself

    # ------------------------------------------------------------------ to the call's life

    def review(self, outcome: Outcome) -> None:
        """Close it where the call was cancelled, which goes on unseen."""
        if outcome.cancelled:
            self._over = CommClosedError(GONE)
            if self.is_open:
                self._tell(MsgKind.CLOSE, nothing)

    # ------------------------------------------------------------------ to callbacks

    def send(self, data: Any) -> bool:
        """Put it where the call finds it."""
        if self._over is None:
            self._messages.append(data)
        return self._over is None

    def close(self, reason: str = "") -> bool:
        """Have its next use raise."""
        is_there = self._over is None
        if is_there:
            self._over = CloseRequestError(reason or CLOSED)
        return is_there

    def _answer_with(self, response: Any) -> Callable[[Request], bool]:
        def answer(request: Request) -> bool:
            self._answers[request.number] = lambda: response
            return True

        return answer

    def _fail(self, request: Request, reason: str) -> None:
        self._answers[request.number] = partial(_raise, CloseRequestError(reason))


def _raise(error: Exception) -> NoReturn:
    raise error
