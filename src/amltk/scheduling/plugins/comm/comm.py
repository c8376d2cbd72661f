"""What the running call has in hand, and the plugin that gives it."""

from __future__ import annotations

import enum
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, TypeVar

from amltk import exceptions
from amltk._checks import check_seconds
from amltk.exceptions import CloseRequestError, CommClosedError, CommConnectError, CommError
from amltk.scheduling.plugins.comm import messages
from amltk.scheduling.plugins.comm.messages import EVENTS, MsgKind
from amltk.scheduling.plugins.comm.plugin import CommPlugin
from amltk.scheduling.plugins.comm.protocol import OVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amltk.scheduling.events import Event

T = TypeVar("T")


class Link(Protocol):
    """What brings the words of a call to its run, such as a `SocketLink`."""

    def is_here(self) -> bool:
        """Whether this is the process that has made it, and not a fork."""
        ...

    def tell(self, kind: MsgKind, data: Any) -> None:
        """Say something that needs no answer."""
        ...

    def request(self, data: Any, timeout: float | None, /) -> Any:
        """Say something and wait for the answer."""
        ...

    def receive(self, timeout: float | None, /) -> Any:
        """Wait for what a callback says."""
        ...

    def poll(self) -> bool:
        """Whether a callback has said something."""
        ...

    def end(self) -> None:
        """The call has ended."""
        ...


class Source(Protocol):
    """Where a comm gets its link from, such as a `Ticket`."""

    def connect(self) -> Link:
        """Make a link, in the call."""
        ...


class State(enum.Enum):
    """The life of a comm."""

    CLOSED = "is not open: use it within `with comm.open():`"
    OPEN = "is open"
    ENDED = "belongs to a call that has ended"


class Comm:
    """Two-way messages between a running call and the callbacks of its run.

    A task that has the plugin `Comm.Plugin` hands one to its function, as the keyword argument `comm`:

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

    Whatever executor the run has, messages come in the order in which they were sent, and all of them come before the
    events of the call's ending. Data are pickled. All methods may be used by several threads of the call; a fork of its
    process cannot use it.
    """

    OPEN: Event[[messages.Msg[Any]], Any] = EVENTS[MsgKind.OPEN]
    """A call has opened its comm. Callbacks take a `Comm.Msg`, as those of the others do."""

    MESSAGE: Event[[messages.Msg[Any]], Any] = EVENTS[MsgKind.MESSAGE]
    """A call has sent something."""

    REQUEST: Event[[messages.Msg[Any]], Any] = EVENTS[MsgKind.REQUEST]
    """A call waits for a response: see `Comm.Msg.respond`."""

    CLOSE: Event[[messages.Msg[Any]], Any] = EVENTS[MsgKind.CLOSE]
    """A call has closed its comm or has ended, was lost or cancelled. Once for each `OPEN`, and after all messages."""

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
        self._lock = threading.Lock()  # opening and closing

    def open(self, opening_msg: Any = None) -> Self:
        """Open it, for `with comm.open():` or until `close` or the end of the call.

        The first time in a call this connects with the run, and waits while a callback keeps the run busy. A comm that
        was closed can be opened again.

        Args:
            opening_msg: The data of the message that callbacks of `OPEN` take.

        Returns:
            The comm itself.

        Raises:
            CommConnectError: The run cannot be reached, or the call was cancelled meanwhile.
            CommError: It is open.
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
        """Close it; does nothing if it is not open.

        Args:
            msg: The data of the message that callbacks of `CLOSE` take.
        """
        with self._lock:
            if self._state is State.OPEN and self._link is not None and self._link.is_here():
                with suppress(CommClosedError, CloseRequestError):  # it is closed already, or about to be
                    self._link.tell(MsgKind.CLOSE, msg)
                self._state = State.CLOSED

    def send(self, msg: Any) -> None:
        """Send something, for callbacks of `MESSAGE`. Waits while they have too much to do.

        Raises:
            CommClosedError: It is not open, or the run is gone, or the call was cancelled.
            CloseRequestError: A callback has closed it: the call is to come to its end.
            Exception: `msg` cannot be pickled.
        """
        self._opened().tell(MsgKind.MESSAGE, msg)

    def request(self, msg: Any = None, *, timeout: float | None = None) -> Any:
        """Ask for something, and wait for the response of a callback of `REQUEST`.

        Args:
            msg: What the callback finds in `Comm.Msg.data`.
            timeout: Seconds after which it is given up, 0 or more; a response that comes later is dropped. None to
                wait for as long as it takes.

        Returns:
            What was given to `Comm.Msg.respond`.

        Raises:
            CommTimeoutError: There was no response in time.
            CloseRequestError: There will be none: nobody has subscribed, a callback has raised, or nobody has kept the
                message. Or a callback has closed the comm.
            CommClosedError: It is not open, or the run is gone, or the call was cancelled.
        """
        return self._opened().request(msg, _check_timeout(timeout))

    def receive(self, *, timeout: float | None = None) -> Any:
        """Take the next thing that a callback has sent with `msg.comm.send`, waiting for it if need be.

        Args:
            timeout: Seconds to wait, 0 or more; None to wait for as long as it takes.

        Raises:
            CommTimeoutError: Nothing has come in time.
            CloseRequestError: A callback has closed the comm, and what was sent before was taken.
            CommClosedError: It is not open, or the run is gone, or the call was cancelled.
        """
        return self._opened().receive(_check_timeout(timeout))

    def poll(self) -> bool:
        """Whether `receive` would return at once. Raises as that does where nothing can come any more."""
        return self._opened().poll()

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Self], tuple[Source]]:
        if self._link is not None:
            raise TypeError(
                "a comm that was opened cannot be sent elsewhere: it belongs to the call that has opened it"
            )
        if self._source is None:
            raise TypeError("the comm of a call that has ended cannot be sent elsewhere: it is of no use any more")
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
        """For as long as its call lasts, in the worker: what the plugin puts around the function."""
        self._state = State.CLOSED  # a further attempt may have the very same comm
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


def _check_timeout(timeout: float | None) -> float | None:
    return None if timeout is None else check_seconds("timeout", timeout)
