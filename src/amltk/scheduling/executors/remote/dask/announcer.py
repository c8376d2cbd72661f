"""In a Dask worker: begins short calls without asking, and sends small outcomes ahead.

What is announced here is in the hands of the operating system before the function is called, so it arrives even if the
worker is killed the moment after. That is what makes it as safe as asking the scheduler for permission, see `tracker`,
while the call does not wait for an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from distributed.comm.core import connect
from distributed.diagnostics.plugin import WorkerPlugin

from amltk.scheduling.executors.execution_info import this_host

if TYPE_CHECKING:
    from distributed import Worker

MOST_BYTES_AHEAD = 1 << 11
"""The size in bytes up to which an outcome is sent ahead. Dask's scheduler keeps the last thousand events."""

_WAITING = frozenset({"waiting", "ready", "constrained"})
"""The states of a task that the worker has, and has not begun."""

_POLL_SECONDS = 0.001

Message = tuple[str, str, bytes]
"""What has happened to a call: `begun` or `ended`, its key, and its outcome."""


class Announcer(WorkerPlugin):  # type: ignore[misc] # distributed has no types
    """Tells Dask's scheduler what this worker does, over a connection of its own. One for each worker."""

    name = "amltk-announcer"

    def __init__(self) -> None:
        self._leases: set[str] = set()  # the calls that may begin without asking
        self._announced: dict[str, Future[None]] = {}  # the calls that have begun; done when the message has left
        self._unsaid: list[tuple[Message, Future[None]]] = []
        self._has_more = asyncio.Event()
        self._is_open = True
        self._talk: asyncio.Task[None]

    def setup(self, worker: Worker) -> None:
        """Connect, in the background."""
        self._worker: Any = worker
        worker.stream_handlers["amltk-lease"] = self.lease
        self._talk = asyncio.create_task(self._send())

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - Dask's interface
        """Disconnect: the worker ends."""
        self._talk.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._talk

    def lease(self, key: str) -> None:
        """Let a call begin without asking. The scheduler says so together with the call itself, and only once."""
        self._leases.add(key)

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:  # noqa: ARG002 - Dask's interface
        """Announce that a leased call begins; forget the lease of one that the worker gives up."""
        if key not in self._leases or finish in _WAITING:
            return
        self._leases.discard(key)
        if finish == "executing":
            self._announced[key] = self._say(("begun", key, b""))

    def take(self, key: str) -> Future[None] | None:
        """The announcement of a call that is about to be computed; None if the scheduler must be asked.

        Called on the thread of the call, once. The call may begin when the announcement has a result.
        """
        return self._announced.pop(key, None)

    def end(self, key: str, outcome: bytes) -> None:
        """Send a small outcome ahead of Dask's report, so that it need not be fetched. On the thread of the call."""
        if self._is_open and len(outcome) <= MOST_BYTES_AHEAD:
            self._worker.loop.add_callback(self._send_ahead, ("ended", key, outcome))

    def _send_ahead(self, message: Message) -> None:
        self._say(message)  # if it does not arrive, Dask has the outcome

    def _say(self, message: Message) -> Future[None]:
        left: Future[None] = Future()
        if self._is_open:
            self._unsaid.append((message, left))
            self._has_more.set()
        else:
            left.set_exception(ConnectionError("the connection to the Dask scheduler is lost"))
        return left

    async def _send(self) -> None:
        try:
            comm: Any = await connect(self._worker.scheduler.address, **self._worker.connection_args)
            try:
                # The handle of a socket: elsewhere it cannot be seen whether a message has left.
                if hasattr(comm, "stream"):
                    await self._send_over(comm)
            finally:
                comm.abort()
        except OSError:
            pass  # the scheduler is gone, so calls need its permission, and do not get it
        finally:
            self._is_open = False
            for _, left in self._unsaid:
                left.set_exception(ConnectionError("the connection to the Dask scheduler is lost"))

    async def _send_over(self, comm: Any) -> None:
        here = {"worker": self._worker.address, "pid": os.getpid(), "host": this_host()}
        await comm.write({"op": "amltk_listen", "reply": False, **here})
        while True:
            await self._has_more.wait()
            self._has_more.clear()
            unsaid = list(self._unsaid)
            await comm.write([message for message, _ in unsaid])
            while comm.stream is not None and comm.stream.writing():  # noqa: ASYNC110 - the stream has no event for it
                await asyncio.sleep(_POLL_SECONDS)
            if comm.stream is None:
                return
            del self._unsaid[: len(unsaid)]
            for _, left in unsaid:
                left.set_result(None)


def announcer_of(worker: Any) -> Announcer | None:
    """The announcer of a worker; None before its first call."""
    found: Announcer | None = worker.plugins.get(Announcer.name)
    return found
