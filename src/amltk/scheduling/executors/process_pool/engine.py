"""The thread behind a pool: it sends calls, receives outcomes, notices deaths and enforces limits.

Everything that the book, the seats and the sockets hold is changed under `_lock`. Futures are given their outcomes
outside of it, since their callbacks are users' code.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pickle
import selectors
import socket
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from amltk.exceptions import PoolBrokenError, WorkerLostError
from amltk.scheduling.executors.process_pool.book import Book, Seat
from amltk.scheduling.executors.process_pool.outcomes import lost, read_exception, remote_error
from amltk.scheduling.executors.process_pool.pickles import CallPickler, Definitions, by_value
from amltk.scheduling.executors.process_pool.protocol import Buffer, Decoder, Frame, Kind, ProtocolError, encode
from amltk.scheduling.executors.process_pool.starters import STARTERS, UNKNOWN, Starter
from amltk.scheduling.executors.process_pool.warden import Warden
from amltk.scheduling.executors.process_pool.worker import Start
from amltk.scheduling.executors.termination import kill_trees

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.executors.process_pool.future import PoolFuture

_log = logging.getLogger(__name__)

SHARING_DELAY = 0.001
"""Seconds that calls wait behind another one before they are given to a worker that has nothing to do."""

SILENCE = 0.5
"""Seconds that a worker may go on without a connection to the pool."""

MOST_FAILED_STARTS = 3
"""Workers that may fail to initialise, one after the other, before the pool is broken."""

Outcome = tuple["PoolFuture", Any, BaseException | None]


class Link:
    """A worker as the engine knows it: its seat, its process and its sockets."""

    def __init__(self, seat: Seat) -> None:
        self.seat: Seat = seat
        self.pid: int = 0
        self.frames: socket.socket
        self.their_frames: socket.socket
        self.frames, self.their_frames = socket.socketpair()
        self.tokens: socket.socket
        self.their_tokens: socket.socket
        self.tokens, self.their_tokens = socket.socketpair()
        self.frames.setblocking(False)
        self.decoder: Decoder = Decoder()
        self.unsent: deque[memoryview] = deque()
        self.knows: set[int] = set()
        self.reason: BaseException | None = None  # why it is being ended
        self.hung_up: bool = False  # by the pool: it is to end
        self.silent_since: float | None = None  # it has closed its socket, on the monotonic clock

    def take_tokens(self) -> int:
        """Take back the tokens that the worker has not taken."""
        with contextlib.suppress(BlockingIOError):
            return len(self.their_tokens.recv(1 << 16, socket.MSG_DONTWAIT))
        return 0

    def count_tokens(self) -> int:
        """How many tokens there are, without taking them."""
        with contextlib.suppress(BlockingIOError):
            return len(self.their_tokens.recv(1 << 16, socket.MSG_DONTWAIT | socket.MSG_PEEK))
        return 0

    def flush(self) -> None:
        """Send as much as goes in."""
        while self.unsent:
            pieces = list(itertools.islice(self.unsent, 64))
            try:
                sent = self.frames.sendmsg(pieces)
            except BlockingIOError:
                return
            except OSError:  # the worker is gone, or has closed its end: its death is noticed elsewhere
                self.unsent.clear()
                return
            for piece in pieces:
                if sent < piece.nbytes:
                    self.unsent[0] = piece[sent:]
                    break
                sent -= piece.nbytes
                self.unsent.popleft()

    def close(self) -> None:
        """Hang up."""
        for sock in (self.frames, self.their_frames, self.tokens, self.their_tokens):
            sock.close()


class Engine:
    """What is behind a `ProcessPool`; arguments as there."""

    def __init__(
        self,
        max_workers: int,
        method: str,
        initialize: tuple[Callable[..., object], tuple[Any, ...]] | None,
        max_tasks_per_child: int | None,
    ) -> None:
        self.broken: PoolBrokenError | None = None
        self._method = method
        self._initialize = initialize
        self._book = Book(max_workers, max_tasks_per_child)
        self._definitions = Definitions()
        self._pickler: CallPickler | None = None
        self._warden = Warden()
        self._links: dict[int, Link] = {}  # by the seat's number
        self._starter: Starter | None = None
        self._failed_starts = 0
        self._keys = itertools.count(1)
        self._arrivals: deque[PoolFuture] = deque()
        self._outcomes: list[Outcome] = []
        # Of what decides whether a call is accepted; the garbage collector may call `close` while it is held.
        self._gate = threading.RLock()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._over = False
        self._asleep = False
        self._hungry = True
        self._share_at: float | None = None
        self._selector = selectors.DefaultSelector()
        self._alarm, self._wake_up = socket.socketpair()
        self._alarm.setblocking(False)
        self._wake_up.setblocking(False)
        self._selector.register(self._wake_up, selectors.EVENT_READ, self._woken)

    # ------------------------------------------------------------------ from any thread

    def accept(self, call: PoolFuture) -> None:
        """Take a call.

        Raises:
            PoolBrokenError: The pool is broken.
            RuntimeError: It was shut down.
        """
        with self._gate:
            if self.broken is not None:
                raise PoolBrokenError(str(self.broken)) from self.broken
            if self._closing:
                raise RuntimeError("cannot schedule new futures after shutdown: this ProcessPool was shut down")
            self._arrivals.append(call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="amltk-process-pool", daemon=True)
                self._thread.start()
        if self._asleep and self._hungry:
            self._wake()

    def cancel(self, call: PoolFuture) -> bool:
        """Give up a call; False if it has ended. A worker that is at it is ended."""
        with self._lock:
            if call.dropped:
                return False
            seat = call.seat
            if seat is not None:
                self._take_back(self._links[seat.number])
            seat = self._book.drop(call)
            if seat is not None:
                link = self._links[seat.number]
                link.reason = WorkerLostError("its call was cancelled")
                self._wake()
            return True

    def has_begun(self, call: PoolFuture) -> bool:
        """Whether a worker is at it."""
        with self._lock:
            seat = call.seat
            if seat is None:
                return False
            return seat.sent[0] is call and self._links[seat.number].count_tokens() < len(seat.sent)

    def close(self, *, cancel: bool) -> None:
        """Accept nothing more; end when everything has ended."""
        with self._gate:
            self._closing = True
            if self._thread is None:
                self._release()
        if cancel:
            with self._lock:
                self._take_arrivals()
                for link in self._links.values():
                    self._take_back(link)
                waiting = [call for call in self._book.queue if not call.dropped]
            for call in waiting:
                call.cancel()
        self._wake()

    def kill(self) -> None:
        """End all workers at once; what ran fails, what waited is cancelled."""
        self.close(cancel=True)
        with self._lock:
            for link in self._links.values():
                link.reason = link.reason or WorkerLostError("the pool's workers were killed")
        self._wake()
        self.join()

    def join(self) -> None:
        """Wait for the end."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def pids(self) -> list[int]:
        """The workers' processes."""
        with self._lock:
            return [link.pid for link in self._links.values() if link.pid]

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):  # woken already; or over
            self._alarm.send(b".")

    # ------------------------------------------------------------------ the thread

    def _work(self) -> None:
        try:
            while not self._over:
                self._turn()
        except BaseException as error:  # noqa: BLE001 - whatever it is, no call may be left without an end
            self._break(PoolBrokenError(f"the thread of the pool failed: {error!r}"), error)
            self._tell()
        finally:
            self._release()

    def _turn(self) -> None:
        with self._lock:
            self._look_after_silent()
            self._end_condemned()
            self._take_arrivals()
            self._start_workers()
            self._share()
            for seat, calls in self._book.assign():
                self._send_calls(self._links[seat.number], calls)
            self._close_down()
            timeout = self._patience()
            self._hungry = self._book.hungry()
        self._tell()
        if self._over:
            return
        self._asleep = True
        if self._arrivals and self._hungry:
            timeout = 0
        ready = self._selector.select(timeout)
        self._asleep = False
        with self._lock:
            for key, events in ready:
                key.data(events)
            for link, error in self._warden.check():
                link.reason = link.reason or error
        self._tell()

    def _patience(self) -> float | None:
        """Seconds to wait for something to happen; None for as long as it takes."""
        if any(link.reason is not None or link.silent_since is not None for link in self._links.values()):
            return 0.01  # it is being killed, or about to end
        times = [t for t in (self._share_at, self._warden.due()) if t is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _woken(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_up.recv(4096)

    def _take_arrivals(self) -> None:
        arrivals = self._arrivals
        while arrivals:
            call = arrivals.popleft()
            call.key = next(self._keys)
            self._book.queue.append(call)

    def _share(self) -> None:
        """Take calls back from a worker that has been at one for some time, while another one has nothing to do."""
        seat = self._book.to_share()
        if seat is None:
            self._share_at = None
        elif self._share_at is None:
            self._share_at = time.monotonic() + SHARING_DELAY
        elif time.monotonic() >= self._share_at:
            self._share_at = None
            self._take_back(self._links[seat.number])

    def _take_back(self, link: Link) -> None:
        if tokens := link.take_tokens():
            self._book.take_back(link.seat, tokens)

    def _close_down(self) -> None:
        """Hang up on workers that are not needed any more, and end when there are none."""
        finished = self._closing and self._book.idle() and not self._arrivals
        for link in self._links.values():
            if (finished or link.seat.retired) and not link.seat.sent and not link.hung_up:
                for sock in (link.tokens, link.frames):
                    with contextlib.suppress(OSError):  # it has ended by itself
                        sock.shutdown(socket.SHUT_WR)
                link.hung_up = True
        if finished and not self._links:
            self._over = True

    def _release(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()
        if self._starter is not None:
            self._starter.close()
            self._starter = None
        with self._gate:
            self._closing = True
            self._selector.close()
            self._alarm.close()
            self._wake_up.close()

    # ------------------------------------------------------------------ workers

    def _start_workers(self) -> None:
        while self.broken is None and self._book.wants_seat():
            starter = self._starter or self._make_starter()
            seat = self._book.add_seat()
            link = Link(seat)
            others = [self._alarm, self._wake_up]
            for other in (*self._links.values(), link):
                others += (other.frames, other.tokens, *([other.their_tokens] if other is not link else []))
            self._links[seat.number] = link
            try:
                link.pid = starter.start(link.their_frames, link.their_tokens, others=others)
            except ConnectionError as error:
                self._links.pop(seat.number).close()
                self._book.remove_seat(seat)
                self._replace_starter()
                self._start_failed(f"no worker could be started: {error}", error)
                continue
            link.their_frames.close()
            self._selector.register(
                link.frames, selectors.EVENT_READ, lambda events, link=link: self._talk(link, events)
            )
            self._send(link, encode(Frame(Kind.INIT, payload=pickle.dumps(self._start()))))

    def _make_starter(self) -> Starter:
        starter: Starter = STARTERS[self._method]()
        self._starter = starter
        if starter.control is not None:
            self._selector.register(starter.control, selectors.EVENT_READ, self._ended)
        return starter

    def _start(self) -> Start:
        main = sys.modules["__main__"]
        initialize = None if self._initialize is None else by_value(self._initialize)
        return Start(list(sys.path), list(sys.argv), getattr(main, "__file__", None), os.getcwd(), initialize)  # noqa: PTH109

    def _ended(self, _events: int = 0) -> None:
        """Take note of processes that have ended."""
        if self._starter is None:
            return
        by_pid = {link.pid: link for link in self._links.values()}
        try:
            for pid, code in self._starter.ended():
                if pid in by_pid:
                    self._bury(by_pid[pid], code)
        except ConnectionError:
            self._replace_starter()

    def _replace_starter(self) -> None:
        """Forget a fork server that was killed; its workers are killed with it. The next worker gets another one."""
        starter, self._starter = self._starter, None
        if starter is not None and starter.control is not None:
            self._selector.unregister(starter.control)
            starter.close()
        links = [link for link in self._links.values() if link.pid]
        kill_trees(link.pid for link in links)  # where the system does not do it
        for link in links:
            self._bury(link, UNKNOWN)

    def _bury(self, link: Link, code: int) -> None:
        """Take out a worker whose process has ended; what it has sent before counts."""
        with contextlib.suppress(BlockingIOError, OSError, ProtocolError):
            while link.decoder.receive(link.frames):
                self._handle_frames(link)
        self._take_back(link)
        if link.silent_since is None:
            self._selector.unregister(link.frames)
        link.close()
        del self._links[link.seat.number]
        self._warden.forget(link)
        for call in self._book.remove_seat(link.seat):
            self._end(call, None, lost(call, link.pid, code, link.reason))
        if not link.seat.ready and not link.hung_up and link.reason is None:
            self._start_failed(f"worker {link.pid} ended with exit code {code} before it was initialised", None)

    def _look_after_silent(self) -> None:
        """A worker without a connection has ended, which its starter tells, or is of no use any more."""
        silent = [link for link in self._links.values() if link.silent_since is not None]
        if not silent:
            return
        if self._starter is not None and self._starter.control is None:
            self._ended()
        for link in silent:
            if time.monotonic() - (link.silent_since or 0.0) > SILENCE and link.reason is None:
                link.reason = ProtocolError("it has closed its connection to the pool")

    def _end_condemned(self) -> None:
        """Kill the workers that are to be ended, with everything that they have started."""
        pids = [link.pid for link in self._links.values() if link.reason is not None and link.pid]
        if pids:
            kill_trees(pids)
            if self._starter is not None and self._starter.control is None:
                self._ended()

    def _start_failed(self, text: str, cause: BaseException | None) -> None:
        self._failed_starts += 1
        if self._failed_starts >= MOST_FAILED_STARTS:
            broken = PoolBrokenError(f"{text}; that was the {self._failed_starts}th time in succession")
            self._break(broken, cause)

    def _break(self, broken: PoolBrokenError, cause: BaseException | None) -> None:
        broken.__cause__ = cause
        with self._gate:
            self.broken = broken
            self._closing = True
        self._take_arrivals()
        for call in list(self._book.pending()):
            self._book.drop(call)
            self._end(call, None, broken)
        for link in self._links.values():
            link.reason = link.reason or broken

    # ------------------------------------------------------------------ talking

    def _talk(self, link: Link, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush(link)
        if not events & selectors.EVENT_READ or link.seat.number not in self._links:
            return
        try:
            if link.decoder.receive(link.frames):
                self._handle_frames(link)
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # reset, since it was killed with something unread
        except ProtocolError as error:
            link.reason = link.reason or error
            return
        self._hang_up(link)

    def _hang_up(self, link: Link) -> None:
        """Nothing more comes from the worker: it has ended, or its function has closed the socket."""
        self._selector.unregister(link.frames)
        link.unsent.clear()
        link.silent_since = time.monotonic()

    def _handle_frames(self, link: Link) -> None:
        for frame in link.decoder.frames():
            kind = frame.kind
            if kind in (Kind.RESULT, Kind.EXCEPTION):
                self._finish(link, frame)
            elif kind == Kind.READY:
                link.seat.ready = True
                self._failed_starts = 0
            elif kind == Kind.BEGUN:
                self._begun(link, frame)
            elif kind == Kind.INIT_FAILED:
                link.hung_up = True
                failure = pickle.loads(frame.payload)
                self._start_failed(
                    f"the initializer failed in worker {link.pid}: {failure.name}: {failure.text}",
                    remote_error(failure),
                )
            else:
                raise ProtocolError(f"received a frame of kind {kind}, which no worker sends")

    def _begun(self, link: Link, frame: Frame) -> None:
        sent = link.seat.sent
        if not sent or sent[0].key != frame.key:
            return  # cancelled
        call = sent[0]
        call.pid, call.began = link.pid, frame.began
        if call.limits is not None and call.fn is not None:
            self._warden.watch(link, call.limits, call.fn, frame.ended)

    def _finish(self, link: Link, frame: Frame) -> None:
        call = self._book.finish(link.seat, frame.key, frame.ended - frame.began)
        if call is None:
            return  # it was cancelled at the last moment
        if call.limits is not None:
            self._warden.forget(link)
        call.pid, call.began, call.ended = link.pid, frame.began, frame.ended
        if frame.kind == Kind.EXCEPTION:
            self._end(call, None, read_exception(frame, call, link.pid))
            return
        try:
            result = pickle.loads(frame.payload, buffers=frame.buffers)
        except BaseException as error:  # noqa: BLE001 - it is the call's outcome
            error.add_note("this was raised when the result was unpickled, in the process that has the pool")
            self._end(call, None, error)
        else:
            self._end(call, result, None)

    def _end(self, call: PoolFuture, result: Any, error: BaseException | None) -> None:
        call.dropped = True
        self._outcomes.append((call, result, error))

    def _tell(self) -> None:
        """Give futures their outcomes, outside of the lock: their callbacks may do anything."""
        outcomes, self._outcomes = self._outcomes, []
        for call, result, error in outcomes:
            call.release()
            if error is None:
                call.set_result(result)
            else:
                call.set_exception(error)

    def _send_calls(self, link: Link, calls: list[PoolFuture]) -> None:
        pieces: list[Buffer] = []
        announced = self._book.expected >= SHARING_DELAY
        sent = 0
        for call in calls:
            frames = self._encode(link, call, Kind.ANNOUNCED_TASK if announced or call.limits else Kind.TASK)
            if frames is None:
                link.seat.sent.remove(call)
                link.seat.begun -= 1
                call.seat = None
                link.seat.closed = link.seat.closed and bool(link.seat.sent)
                continue
            pieces += frames
            sent += 1
        if sent:
            self._send(link, pieces)
            with contextlib.suppress(OSError):  # the worker is gone: nothing of this was begun
                link.tokens.send(bytes((link.seat.generation,)) * sent)

    def _encode(self, link: Link, call: PoolFuture, kind: Kind) -> list[Buffer] | None:
        """A call as frames, with the definitions that the worker does not know; None if it cannot be pickled."""
        if self._pickler is None:
            self._pickler = CallPickler(self._definitions)
        fn, definition = call.fn, 0
        frames: list[Buffer] = []
        try:
            if type(fn).__name__ in ("function", "type"):
                definition = self._definitions.number(fn)
                pickled = self._pickler.pickle((call.args, call.kwargs))
                pickled.uses.add(definition)
            else:
                pickled = self._pickler.pickle((fn, call.args, call.kwargs))
        except BaseException as error:  # noqa: BLE001 - it is the call's outcome
            error.add_note(f"this was raised when a call of {fn!r} was pickled for a worker process")
            self._end(call, None, error)
            return None
        for number in pickled.uses - link.knows:
            link.knows.add(number)
            frames += encode(Frame(Kind.DEFINE, number, payload=self._definitions.payload(number)))
        while self._definitions.forgotten:
            number = self._definitions.forgotten.popleft()
            for other in self._links.values():
                if number in other.knows:
                    other.knows.discard(number)
                    self._send(other, encode(Frame(Kind.FORGET, number)))
        frames += encode(
            Frame(kind, call.key, link.seat.generation, definition, 0.0, 0.0, pickled.payload, pickled.buffers)
        )
        return frames

    def _send(self, link: Link, pieces: list[Buffer]) -> None:
        if len(pieces) > 1 and sum(map(len, pieces)) < 1 << 18:
            pieces = [b"".join(pieces)]
        link.unsent.extend(memoryview(piece).cast("B") for piece in pieces if len(piece))
        self._flush(link)

    def _flush(self, link: Link) -> None:
        if link.silent_since is not None:
            link.unsent.clear()
            return
        was_waiting = bool(self._selector.get_key(link.frames).events & selectors.EVENT_WRITE)
        link.flush()
        if bool(link.unsent) != was_waiting:
            key = self._selector.get_key(link.frames)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.unsent else 0)
            self._selector.modify(link.frames, events, key.data)
