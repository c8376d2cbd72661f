"""A comm without a connection, for calls that run on the run's own thread."""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from amltk.exceptions import CloseRequestError, CommClosedError, CommConnectError, CommError, CommTimeoutError
from amltk.scheduling.plugins.comm import payloads
from amltk.scheduling.plugins.comm._driver.conversation import Conversation, nothing
from amltk.scheduling.plugins.comm.messages import MsgKind, Request
from amltk.scheduling.plugins.comm.protocol import CLOSED, GONE, OVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling._run.run import Run
    from amltk.scheduling.call import Call, Outcome

HELD = "calls of a SequentialExecutor occupy the run's thread, so that {} cannot arrive later"


class DirectConversation(Conversation):
    """Both sides of the comm of a call on the loop's thread: a message has been answered when it has been delivered.

    Data are passed without a copy. To the call this is a `Link`.
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
            "the comm of a SequentialExecutor cannot leave its thread: leave out plugins such as Limits, or use"
            " Scheduler.with_processes()"
        )

    # ------------------------------------------------------------------ to the call

    def connect(self) -> DirectConversation:
        """Connect; only the thread that does can use the comm.

        Raises:
            CommConnectError: The call was cancelled, or this is a fork.
        """
        if os.getpid() != self._pid:
            raise CommConnectError(
                "a fork of the process cannot open the comm of a SequentialExecutor, as nothing would receive; use"
                " Scheduler.with_processes()"
            )
        if self.future.cancelled():
            raise CommConnectError(OVER)
        self._thread = threading.get_ident()
        self._over = None
        self._messages.clear()
        return self

    def is_here(self) -> bool:
        """Whether this is the process of the run; every thread that gets this far is in that process."""
        return True

    def tell(self, kind: MsgKind, data: Any) -> None:
        """Deliver a message before returning. Raises like any `Link`."""
        if kind is not MsgKind.CLOSE:  # which is also sent if a callback has closed the comm
            self._check()
        elif not self._has_opened:
            return  # it was cancelled
        self._tell(kind, lambda: data, at_once=True, payload=lambda: payloads.for_driver(data))

    def request(self, data: Any, _timeout: float | None) -> Any:
        """Deliver a request, and return the response of a callback; there is nothing to wait for.

        Raises:
            CloseRequestError: No callback responded.
        """
        self._check()
        request = Request(next(self._numbers))
        self._tell(MsgKind.REQUEST, lambda: data, request, at_once=True, payload=lambda: payloads.for_driver(data))
        if request.take():
            raise CloseRequestError(f"no callback of @comm-request responded, and {HELD.format('a response')}")
        return self._answers.pop(request.number)()

    def receive(self, _timeout: float | None) -> Any:
        """The next message from a callback.

        Raises:
            CommTimeoutError: There is no message, and nothing to wait for.
        """
        if not self._messages:
            self._check()
            raise CommTimeoutError(f"there is no message, and {HELD.format('one')}")
        return self._messages.popleft()

    def poll(self) -> bool:
        """Whether a callback has sent a message."""
        if not self._messages:
            self._check()
        return bool(self._messages)

    def end(self) -> None:
        """Note that the call has ended."""
        self._over = CommClosedError("the call of this comm has ended")

    def _check(self) -> None:
        if threading.get_ident() != self._thread:
            raise CommError("on a SequentialExecutor only the thread of the call itself can use its comm")
        if self._over is not None:
            raise type(self._over)(*self._over.args)  # a new one: its traceback has this frame, and would keep itself

    # ------------------------------------------------------------------ for the life of the call

    def review(self, outcome: Outcome) -> None:
        """Close the comm if the call was cancelled, since the call keeps running unnoticed."""
        if outcome.cancelled:
            self._over = CommClosedError(GONE)
            if self._has_opened:
                self._tell(MsgKind.CLOSE, nothing)

    # ------------------------------------------------------------------ for callbacks

    def send(self, data: Any) -> bool:
        """Queue a message for the call."""
        if self._over is None:
            self._messages.append(self._with_shared(data))
        return self._as_told(self._over is None)

    def close(self, reason: str = "") -> bool:
        """Make the call's next use of the comm raise."""
        is_there = self._over is None
        if is_there:
            self._over = CloseRequestError(reason or CLOSED)
        return self._as_told(is_there)

    def _answer_with(self, response: Any) -> Callable[[Request], bool]:
        response = self._with_shared(response)

        def answer(request: Request) -> bool:
            self._answers[request.number] = lambda: response
            return True

        return answer

    def _fail(self, request: Request, reason: str) -> None:
        self._answers[request.number] = partial(_raise, CloseRequestError(reason))


def _raise(error: Exception) -> NoReturn:
    raise error
