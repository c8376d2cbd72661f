"""The life of the workers: who is started, who is ended and why, and what becomes of their calls.

Done by the pool's own thread only, since starting and killing processes takes its time.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing.process
import os
import pickle
import selectors
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from amltk.exceptions import PoolBrokenError
from amltk.scheduling.executors.failure import stand_in
from amltk.scheduling.executors.process_pool.link import Link
from amltk.scheduling.executors.process_pool.outcomes import lost
from amltk.scheduling.executors.process_pool.pickles import by_value
from amltk.scheduling.executors.process_pool.protocol import Kind, ProtocolError, encode
from amltk.scheduling.executors.process_pool.starters import STARTERS, UNKNOWN, Starter
from amltk.scheduling.executors.process_pool.worker import Start
from amltk.scheduling.executors.termination import kill_trees

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from amltk.scheduling.executors.process_pool.book import Book
    from amltk.scheduling.executors.process_pool.traffic import Traffic

_log = logging.getLogger(__name__)

SILENCE = 0.5
"""Seconds that a worker may go on without a connection to the pool."""

MOST_FAILED_STARTS = 3
"""Workers that may fail to initialise, one after the other, before the pool is broken."""


class Staff:
    """See the module.

    Args:
        method: How workers are started, a key of `STARTERS`.
        initialize: What each worker calls first, and with which arguments; or None.
        variables: Gives environment variables for the workers, besides those of this process.
        book: Says when a worker is wanted.
        traffic: Has the links.
        selector: Where the sockets of new workers are registered.
        control: Where the starter's socket is registered.
        lock: The engine's, not held by the caller.
        own: Sockets of the engine, which a forked worker must not keep.

    Attributes:
        due: When to look after things next, on the monotonic clock, whatever happens; None for never.
    """

    def __init__(
        self,
        method: str,
        initialize: tuple[Callable[..., object], tuple[Any, ...]] | None,
        *,
        variables: Callable[[], dict[str, str]],
        book: Book,
        traffic: Traffic,
        selector: selectors.BaseSelector,
        control: selectors.BaseSelector,
        lock: threading.Lock,
        own: list[socket.socket],
    ) -> None:
        self._method = method
        self._initialize = initialize
        self._variables = variables
        self._book = book
        self._traffic = traffic
        self._links = traffic.links
        self._selector = selector
        self._control = control
        self._lock = lock
        self._own = own
        self._starter: Starter | None = None
        self.due: float | None = None

    def look_after(self, *, closing: bool) -> bool:
        """See to everything that has come up.

        Args:
            closing: Nothing more is accepted: hang up on everybody once all is done.

        Returns:
            Whether there is something new for the traffic: calls that can go to others, or outcomes.

        Raises:
            PoolBrokenError: Workers fail to start, one after the other.
        """
        warden = self._traffic.warden
        excesses = warden.check()
        with self._lock:
            self._traffic.staff_wanted = False
            for excess in excesses:
                if warden.confirm(excess):
                    self._traffic.condemn(excess.link, excess.error)
        changed = self._note_ends()
        self._kill_condemned()
        with self._lock:
            self._hang_up(everybody=closing and self._book.idle())
        changed = self._start_workers() or changed
        with self._lock:
            self.due = self._next_look()
        return changed

    def needed(self) -> bool:
        """Whether there may be something to look after at once, besides what was noted; under the lock."""
        return self._traffic.staff_wanted or self._book.wants_seat()

    def _next_look(self) -> float | None:
        if any(link.reason is not None or link.silent_since is not None for link in self._links.values()):
            return time.monotonic() + 0.01  # it is being killed, or about to end
        return self._traffic.warden.due()

    def close(self) -> None:
        """End what was needed to start workers, once these have ended."""
        with self._lock:
            for link in self._links.values():
                link.close()
            self._links.clear()
        if self._starter is not None:
            self._starter.close()
            self._starter = None

    # ------------------------------------------------------------------ starts

    def _start_workers(self) -> bool:
        failed = False
        while True:
            with self._lock:
                if not self._book.wants_seat():
                    return failed
                link = Link(self._book.add_seat())
                self._links[link.seat.number] = link
            try:
                link.pid = self._make_starter().start(link.their_frames, link.their_tokens, others=self._others(link))
            except ConnectionError as error:
                failed = True
                with self._lock:
                    self._links.pop(link.seat.number).close()
                    self._book.remove_seat(link.seat)
                self._replace_starter()
                self._start_failed(f"no worker could be started: {error}", error)
                continue
            _log.debug("worker %d was started by %s", link.pid, self._method)
            link.their_frames.close()
            payload = pickle.dumps(self._start())
            with self._lock:
                self._selector.register(link.frames, selectors.EVENT_READ, link)
                self._traffic.send(link, encode(Kind.INIT, payload=payload))

    def _make_starter(self) -> Starter:
        if self._starter is None:
            self._starter = STARTERS[self._method](self._variables())
            if self._starter.control is not None:
                self._control.register(self._starter.control, selectors.EVENT_READ)
        return self._starter

    def _others(self, new: Link) -> list[socket.socket]:
        """The sockets that a forked worker would keep open for others."""
        others = list(self._own)
        for link in list(self._links.values()):
            others += (link.frames, link.tokens, *([link.their_tokens] if link is not new else []))
        return others

    def _start(self) -> Start:
        main = sys.modules["__main__"]
        return Start(
            path=list(sys.path),
            argv=list(sys.argv),
            main_file=getattr(main, "__file__", None),
            directory=os.getcwd(),  # noqa: PTH109 - a string, as it travels
            initialize=None if self._initialize is None else by_value(self._initialize),
            authkey=bytes(multiprocessing.process.current_process().authkey),
        )

    def _start_failed(self, text: str, cause: BaseException | None) -> None:
        self._book.failed_starts += 1
        if self._book.failed_starts >= MOST_FAILED_STARTS:
            broken = PoolBrokenError(f"{text}; that was the {self._book.failed_starts}th time in succession")
            raise broken from cause
        _log.warning("%s; another one is started", text)

    # ------------------------------------------------------------------ ends

    def _hang_up(self, *, everybody: bool) -> None:
        """Have workers end that are not needed any more."""
        for link in self._links.values():
            if (everybody or link.seat.retired) and not link.seat.sent and not link.hung_up and link.pid:
                for sock in (link.tokens, link.frames):
                    with contextlib.suppress(OSError):  # it has ended by itself
                        sock.shutdown(socket.SHUT_WR)
                link.hung_up = True

    def _kill_condemned(self) -> None:
        """Kill the workers that are to be ended, with everything that they have started."""
        now = time.monotonic()
        with self._lock:
            for link in self._links.values():
                if link.silent_since is not None and now - link.silent_since > SILENCE:
                    link.reason = link.reason or ProtocolError("it has closed its connection to the pool")
            pids = [link.pid for link in self._links.values() if link.reason is not None and link.pid]
        if pids:
            kill_trees(pids)

    def _note_ends(self) -> bool:
        """Take note of processes that have ended."""
        if self._starter is None:
            return False
        by_pid = {link.pid: link for link in self._links.values()}
        try:
            ended = [(by_pid[pid], code) for pid, code in self._starter.ended() if pid in by_pid]
        except ConnectionError:
            self._replace_starter()
            return True
        for link, code in ended:
            self._bury(link, code)
        return bool(ended)

    def _replace_starter(self) -> None:
        """Forget a fork server that was killed; its workers are killed with it. The next worker gets another one."""
        starter, self._starter = self._starter, None
        _log.warning("the process that starts workers has ended; another one is started")
        if starter is not None and starter.control is not None:
            self._control.unregister(starter.control)
            starter.close()
        links = [link for link in self._links.values() if link.pid]
        kill_trees(link.pid for link in links)  # where the system does not do it
        for link in links:
            self._bury(link, UNKNOWN)

    def _bury(self, link: Link, code: int) -> None:
        """Take out a worker whose process has ended; what it has sent before counts."""
        with self._lock:
            if link.silent_since is None:
                with contextlib.suppress(BlockingIOError, OSError, ProtocolError):
                    while link.decoder.receive(link.frames):
                        self._traffic.handle_frames(link)
                self._selector.unregister(link.frames)
            self._traffic.take_back(link)
            link.close()
            del self._links[link.seat.number]
            self._traffic.warden.forget(link)
            for call in self._book.remove_seat(link.seat):
                self._traffic.end(call, lost(call, link.pid, code, link.reason))
        _log.debug("worker %d has ended, exit code %d: %s", link.pid, code, link.reason or "not killed by the pool")
        if link.failure is not None:
            failure = link.failure
            text = f"the initializer failed in worker {link.pid}: {failure.name}: {failure.text}"
            self._start_failed(text, stand_in(failure))
        elif not link.seat.ready and not link.hung_up and link.reason is None:
            self._start_failed(f"worker {link.pid} ended with exit code {code} before it was initialised", None)
