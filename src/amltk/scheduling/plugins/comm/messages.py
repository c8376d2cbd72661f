"""The messages that are passed to callbacks of a comm's events."""

from __future__ import annotations

import enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from amltk._notes import safe_repr
from amltk.exceptions import CommError
from amltk.scheduling.events import Event

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from amltk.scheduling.plugins.comm._driver.conversation import Conversation
    from amltk.scheduling.task import Task

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    T = TypeVarWithDefault("T", default=Any)
else:
    T = TypeVar("T")


class MsgKind(enum.Enum):
    """The kinds of messages; each has its event."""

    OPEN = "open"
    MESSAGE = "message"
    REQUEST = "request"
    CLOSE = "close"


class Request:
    """A request that a call is waiting on; it is answered once.

    Args:
        number: The call's number for it.
        connection: The connection that it came over, so that no other is answered in its place.
    """

    __slots__ = ("_untaken", "connection", "number")

    def __init__(self, number: int, connection: object = None) -> None:
        self.number: int = number
        self.connection: object = connection
        self._untaken = [True]

    def take(self) -> bool:
        """Whether the caller may answer it: only the first caller, on any thread, may."""
        try:
            return self._untaken.pop()
        except IndexError:
            return False


class Msg(Generic[T]):
    """A message from a running call. Callbacks of the comm's events take one.

    Attributes:
        kind: The kind of message.
        comm: The call's comm, for messages to the call.
    """

    Kind: TypeAlias = MsgKind

    def __init__(
        self, kind: MsgKind, comm: Conversation, load: Callable[[], T], request: Request | None = None
    ) -> None:
        self.kind: MsgKind = kind
        self.comm: Conversation = comm
        self._load: Callable[[], T] | None = load
        self._request = request

    @cached_property
    def data(self) -> T:
        """The data that the call sent; None for `@comm-close` of a call that was lost.

        Raises:
            Exception: The data cannot be unpickled here.
        """
        assert self._load is not None  # it is kept until it has succeeded
        data = self._load()
        self._load = None  # the bytes are no longer needed
        return data

    @property
    def task(self) -> Task[..., Any]:
        """The task that the call belongs to."""
        return self.comm.task

    @property
    def future(self) -> asyncio.Future[Any]:
        """The future that `submit` returned for the call."""
        return self.comm.future

    def respond(self, response: Any = None) -> bool:
        """Answer a request, now or later, from any thread.

        Args:
            response: The value that `comm.request` returns in the call.

        Returns:
            False if the call has ended meanwhile, so that nothing waits for the response; this is logged.

        Raises:
            CommError: This is not a request, or it has already been answered.
            Exception: The response cannot be pickled.
        """
        if self._request is None:
            raise CommError(f"this {self.kind.value} expects no response; use msg.comm.send(...) to send to the call")
        return self.comm.respond(self._request, response)

    def __del__(self) -> None:
        # No one kept the message, so no one can answer it any more: the call must not wait forever.
        if self._request is not None:
            self.comm.leave_unanswered(self._request)

    def __repr__(self) -> str:
        try:
            data = safe_repr(self.data)
        except Exception as error:  # noqa: BLE001 - the user's own class failed; reported instead
            data = f"<cannot be unpickled: {safe_repr(error)}>"
        return f"Msg({self.kind.value}, {data})"


EVENTS: dict[MsgKind, Event[[Msg[Any]], Any]] = {kind: Event(f"comm-{kind.value}") for kind in MsgKind}
"""The event of each kind."""
