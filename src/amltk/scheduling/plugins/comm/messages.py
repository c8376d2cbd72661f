"""What callbacks of a comm's events are called with."""

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

    from amltk.scheduling.plugins.comm.conversation import Conversation
    from amltk.scheduling.task import Task

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    T = TypeVarWithDefault("T", default=Any)
else:
    T = TypeVar("T")


class MsgKind(enum.Enum):
    """What a message says; each kind has its event."""

    OPEN = "open"
    MESSAGE = "message"
    REQUEST = "request"
    CLOSE = "close"


class Request:
    """Something that a call waits for; one answer goes to it.

    Args:
        number: How the call knows it.
        connection: What has brought it, so that nothing else is answered in its place.
    """

    __slots__ = ("_untaken", "connection", "number")

    def __init__(self, number: int, connection: object = None) -> None:
        self.number: int = number
        self.connection: object = connection
        self._untaken = [True]

    def take(self) -> bool:
        """Whether the caller is the one to answer it: whoever comes first, from whatever thread."""
        try:
            return self._untaken.pop()
        except IndexError:
            return False


class Msg(Generic[T]):
    """What a running call has said. Made by the comm; callbacks of its events take one.

    Attributes:
        kind: What it is.
        comm: The call's comm, to say something to it.
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
        """What the call has sent; None for `@comm-close` of a call that was lost.

        Raises:
            Exception: It cannot be unpickled here.
        """
        assert self._load is not None  # it is there until it has succeeded
        data = self._load()
        self._load = None  # the bytes are not needed any more
        return data

    @property
    def task(self) -> Task[..., Any]:
        """The task that the call belongs to."""
        return self.comm.task

    @property
    def future(self) -> asyncio.Future[Any]:
        """The future of the call, as `submit` returned it."""
        return self.comm.future

    def respond(self, response: Any = None) -> bool:
        """Answer a request, now or later, from any thread.

        Args:
            response: What `comm.request` returns in the call.

        Returns:
            False if the call has ended meanwhile, so that nobody waits for it; this is logged.

        Raises:
            CommError: This is no request, or it was answered before.
            Exception: The response cannot be pickled.
        """
        if self._request is None:
            raise CommError(
                f"this {self.kind.value} expects no response; msg.comm.send(...) says something to the call"
            )
        return self.comm.respond(self._request, response)

    def __del__(self) -> None:
        # Nobody has kept it, so nobody can answer any more: the call must not wait for ever.
        if self._request is not None:
            self.comm.leave_unanswered(self._request)

    def __repr__(self) -> str:
        try:
            data = safe_repr(self.data)
        except Exception as error:  # noqa: BLE001 - of the user's own class; told in its place
            data = f"<cannot be unpickled: {safe_repr(error)}>"
        return f"Msg({self.kind.value}, {data})"


EVENTS: dict[MsgKind, Event[[Msg[Any]], Any]] = {kind: Event(f"comm-{kind.value}") for kind in MsgKind}
"""The event of each kind."""
