"""The comm object that a running call uses."""

from __future__ import annotations

import enum
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, TypeVar

from amltk import exceptions
from amltk._checks import check_optional_seconds
from amltk.exceptions import CloseRequestError, CommClosedError, CommConnectError, CommError
from amltk.scheduling.plugins.comm import messages
from amltk.scheduling.plugins.comm.messages import EVENTS, MsgKind
from amltk.scheduling.plugins.comm.plugin import CommPlugin
from amltk.scheduling.plugins.comm.protocol import OVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amltk.scheduling.events import Event
    from amltk.types import Duration

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    T = TypeVarWithDefault("T", default=Any)
else:
    T = TypeVar("T")


class Link(Protocol):
    """Connects a call to its run, for example a `SocketLink`."""

    def is_here(self) -> bool:
        """Whether this is the process that created the link, and not a fork of it."""
        ...

    def tell(self, kind: MsgKind, data: Any) -> None:
        """Send a message that needs no answer."""
        ...

    def request(self, data: Any, timeout: float | None, /) -> Any:
        """Send a request and wait for the answer."""
        ...

    def receive(self, timeout: float | None, /) -> Any:
        """Wait for a message from a callback."""
        ...

    def poll(self) -> bool:
        """Whether a message from a callback has arrived."""
        ...

    def end(self) -> None:
        """Note that the call has ended."""
        ...


class Source(Protocol):
    """Provides the link of a comm, for example a `Ticket`."""

    def connect(self) -> Link:
        """Create a link, within the call."""
        ...


class State(enum.Enum):
    """The states of a comm."""

    CLOSED = "is not open: use it within `with comm.open():`"
    OPEN = "is open"
    ENDED = "belongs to a call that has ended"


class Comm:
    """Two-way messages between a running call and the callbacks of its run.

    A task with the plugin `Comm.Plugin` passes a comm to its function, as the keyword argument `comm`:

    ```python
    def train(config, *, comm):
        with comm.open():
            for epoch in range(100):
                comm.send(score(...))

    task = scheduler.task(train, plugins=Comm.Plugin())

    @task.on("comm-message")
    def watch(msg: Comm.Msg) -> None:
        print(msg.data)
    ```

    On every executor, messages arrive in the order in which they were sent, and before the events of the call's end.
    Data are pickled. Several threads of the call may use a comm; a fork of its process cannot.
    """

    OPEN: Event[[messages.Msg[Any]], Any] = EVENTS[MsgKind.OPEN]
    """A call has opened its comm. Callbacks take a `Comm.Msg`, as for all these events."""

    MESSAGE: Event[[messages.Msg[Any]], Any] = EVENTS[MsgKind.MESSAGE]
    """A call has sent a message."""

    REQUEST: Event[[messages.Msg[Any]], Any] = EVENTS[MsgKind.REQUEST]
    """A call is waiting for a response; see `Comm.Msg.respond`."""

    CLOSE: Event[[messages.Msg[Any]], Any] = EVENTS[MsgKind.CLOSE]
    """A call has closed its comm, ended, was lost or cancelled. Once for each `OPEN`, and after all messages."""

    if TYPE_CHECKING:
        Msg = messages.Msg[T]
    else:
        Msg = messages.Msg  # the class itself, for isinstance()

    Plugin: TypeAlias = CommPlugin

    TimeoutError: TypeAlias = exceptions.CommTimeoutError
    CloseRequestError: TypeAlias = exceptions.CloseRequestError
    ClosedError: TypeAlias = exceptions.CommClosedError
    ConnectError: TypeAlias = exceptions.CommConnectError

    def __init__(self, source: Source) -> None:
        self._source: Source | None = source  # None once its call is over, in this process
        self._link: Link | None = None
        self._state = State.CLOSED
        self._lock = threading.Lock()  # guards opening and closing

    def open(self, opening_msg: Any = None) -> Self:
        """Open the comm, for `with comm.open():` or until `close` or the end of the call.

        The first time in a call this connects to the run, and waits while a callback keeps the run busy. A closed comm
        can be opened again.

        Args:
            opening_msg: The data of the message to callbacks of `OPEN`.

        Returns:
            The comm itself.

        Raises:
            CommConnectError: The run cannot be reached, or the call was cancelled meanwhile.
            CommError: The comm is already open.
        """
        with self._lock:
            if self._state is not State.CLOSED:
                raise CommError(f"this comm {self._state.value}: it cannot be opened")
            if self._link is None:
                self._link = self._connect()
            self._link.tell(MsgKind.OPEN, opening_msg)
            self._state = State.OPEN
        return self

    def _connect(self) -> Link:
        source = self._source  # read once: the call may be cancelled meanwhile, on another thread
        if source is None:
            raise CommConnectError(OVER)
        return source.connect()

    def close(self, msg: Any = None) -> None:
        """Close the comm; does nothing if it is not open.

        Args:
            msg: The data of the message to callbacks of `CLOSE`.
        """
        with self._lock:
            if self._state is State.OPEN and self._link is not None and self._link.is_here():
                with suppress(CommClosedError, CloseRequestError):  # it is already closed, or about to be
                    self._link.tell(MsgKind.CLOSE, msg)
                self._state = State.CLOSED

    def send(self, msg: Any) -> None:
        """Send a message to the callbacks of `MESSAGE`. Waits while they are too busy.

        Raises:
            CommClosedError: The comm is not open, the run is gone, or the call was cancelled.
            CloseRequestError: A callback has closed the comm: the call should finish.
            Exception: `msg` cannot be pickled.
        """
        self._opened().tell(MsgKind.MESSAGE, msg)

    def request(self, msg: Any = None, *, timeout: Duration | None = None) -> Any:
        """Ask for something, and wait for the response of a callback of `REQUEST`.

        Args:
            msg: What the callback finds in `Comm.Msg.data`.
            timeout: After how long it is given up: seconds, a text such as `"1 min"`, or a `timedelta`; a response that
                comes later is dropped. None to wait for as long as it takes.

        Returns:
            The argument of `Comm.Msg.respond`.

        Raises:
            CommTimeoutError: There was no response in time.
            CloseRequestError: There will be no response: no callback is subscribed, one raised, or none has kept the
                message. Or a callback has closed the comm.
            CommClosedError: The comm is not open, the run is gone, or the call was cancelled.
        """
        return self._opened().request(msg, check_optional_seconds("timeout", timeout))

    def receive(self, *, timeout: Duration | None = None) -> Any:
        """Take the next thing that a callback has sent with `msg.comm.send`, waiting for it if need be.

        Args:
            timeout: How long to wait: seconds, a text such as `"1 min"`, or a `timedelta`; None to wait for as long as
                it takes.

        Raises:
            CommTimeoutError: Nothing arrived in time.
            CloseRequestError: A callback has closed the comm, and all earlier messages have been received.
            CommClosedError: The comm is not open, the run is gone, or the call was cancelled.
        """
        return self._opened().receive(check_optional_seconds("timeout", timeout))

    def poll(self) -> bool:
        """Whether `receive` would return at once. Raises like `receive` if nothing more can arrive."""
        return self._opened().poll()

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Self], tuple[Source]]:
        if self._link is not None:
            raise TypeError("an opened comm cannot be sent elsewhere: it belongs to the call that opened it")
        if self._source is None:
            raise TypeError("the comm of a call that has ended cannot be sent elsewhere: nothing could use it")
        return type(self), (self._source,)

    def __repr__(self) -> str:
        return f"<Comm, {self._state.name.lower()}>"

    def _opened(self) -> Link:
        link = self._link
        if link is None or self._state is not State.OPEN:
            raise CommClosedError(f"this comm {self._state.value}")
        return link

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """For the lifetime of the call, in the worker: the plugin wraps the function in this context manager."""
        self._state = State.CLOSED  # a further attempt may get the same comm object
        try:
            yield
        finally:
            self._end()

    def part(self) -> None:
        """Know the run no more, which knows the call: that is over, and frames of what it has raised may have this."""
        self._source = None

    def _end(self) -> None:
        self.close()
        with self._lock:
            self._state = State.ENDED
            link, self._link = self._link, None
        if link is not None:
            link.end()
