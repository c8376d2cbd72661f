"""The pool's I/O with its workers: calls, the definitions that calls need, and outcomes.

Nothing here blocks or runs users' code. Everything happens under the lock of the pool's state.
"""

from __future__ import annotations

import contextlib
import pickle
import selectors
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors.process_pool._io.limit_monitor import LimitMonitor
from amltk.scheduling.executors.process_pool._io.pace import Pace
from amltk.scheduling.executors.process_pool._io.packer import Packer, Question, definitions_of
from amltk.scheduling.executors.process_pool._io.segments import ABOUT_SEGMENTS, Packed, Segments
from amltk.scheduling.executors.process_pool._state.protocol import USAGE, Buffer, Frame, Kind, ProtocolError, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from amltk.scheduling.executors.process_pool._io.link import Link
    from amltk.scheduling.executors.process_pool._io.packer import Answer
    from amltk.scheduling.executors.process_pool._pickling.definitions import Definition
    from amltk.scheduling.executors.process_pool._state.dispatcher import Dispatcher, WorkerSlot
    from amltk.scheduling.executors.process_pool._state.lock_order import PoolLocks
    from amltk.scheduling.executors.process_pool._state.outcomes import Outcome
    from amltk.scheduling.executors.process_pool._system.resource_tracker import Forwarding
    from amltk.scheduling.executors.process_pool.future import PoolFuture

SHARING_DELAY_SECONDS = 0.001
"""How many seconds calls wait behind another one before they are given to an idle worker."""

OUTCOMES = frozenset({Kind.RESULT, Kind.EXCEPTION})
"""The kinds of frames that end a call."""

MAX_JOINED_BYTES = 1 << 18
"""The size in bytes up to which frames sent together are joined."""

PING = 0
"""The number of an empty call, see `dispatcher`; calls of users have others."""

_EMPTY_CALL = pickle.dumps((int, (), {}))


class WorkerIO:
    """See the module's docstring.

    Args:
        dispatcher: Decides which worker gets which call.
        selector: The selector where the workers' sockets are registered, each with its handler.
        locks: Makes the pool's locks.
        lock: The pool's lock of the level `STATE`.
        shared_memory: How many bytes of shared memory are used at most.
        wake: Causes a turn soon. May be called at any moment.

    Attributes:
        links: The workers, by the numbers of their slots.
        limit_monitor: Enforces the limits of calls.
        packer: Pickles what is sent.
        segments: The shared memory in which large buffers cross.
        outcomes: Outcomes of calls that have not been delivered yet.
        unknown_outcomes: Outcomes that may take long to unpickle, and have not been given to another thread yet.
        unpickling_pace: For which functions outcomes are unpickled quickly.
        questions: Questions of workers about missing names.
        manager_wanted: Whether something has happened that the manager must handle.
        slowest_start: The most seconds that a worker has taken to become ready; 0.0 if none has yet.
        share_at: When to take back calls queued behind another one, on the monotonic clock; None for never.
        measures: 1.0 if workers measure the calls that they are sent from now on, else 0.0.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        selector: selectors.BaseSelector,
        *,
        locks: PoolLocks,
        lock: Any,
        shared_memory: int,
        wake: Callable[[], object],
    ) -> None:
        self.links: dict[int, Link] = {}
        self.limit_monitor: LimitMonitor = LimitMonitor()
        self.outcomes: list[Outcome] = []
        self.unknown_outcomes: list[tuple[PoolFuture, Frame]] = []
        self.unpickling_pace: Pace = Pace()
        self.questions: list[Question] = []
        self.manager_wanted: bool = False
        self.slowest_start: float = 0.0
        self.share_at: float | None = None
        self.measures: float = 0.0
        self.forwarding: Forwarding | None = None  # forwards workers' lines to the resource tracker
        self._blocking: int | None = None  # the call that they wait behind
        self._quick_function: Any = None  # the last one, while frames are handled
        self._dispatcher = dispatcher
        self._selector = selector
        self.segments: Segments = Segments(shared_memory, lock, self.links, send=self.send, wake=wake)
        self.packer: Packer = Packer(locks, partial(setattr, self, "manager_wanted", True), self.segments.pack)

    def disown(self) -> None:
        """Release, in a forked copy of the process, what belongs to its parent."""
        self.packer.disown()
        self.outcomes, self.unknown_outcomes, self.questions = [], [], []
        if self.forwarding is not None:
            self.forwarding.disown()
            self.forwarding = None

    # ------------------------------------------------------------------ to the workers

    def unpacked(self) -> list[PoolFuture]:
        """The calls that must be packed before they can be sent, as many as workers have room for."""
        calls: list[PoolFuture] = []
        # Without workers, only the first call: the modules that it needs are imported before any worker is started.
        capacity = self._dispatcher.capacity() if self._dispatcher.slots else 1
        for call in self._dispatcher.queue:
            if not capacity:
                break
            if not call.dropped:
                capacity -= 1
                if call.payload is None:
                    calls.append(call)
        return calls + [call for call in self._dispatcher.bound.waiting if call.payload is None and not call.dropped]

    def send_answers(self, answers: Iterable[Answer]) -> None:
        """Send answers to the workers that still exist."""
        for (link, key, _, _), definition, payload in answers:
            if self.links.get(link.slot.number) is link:
                pieces = [] if definition is None else self._definition_frames(link, [definition])
                number = 0 if definition is None else definition.number
                self.send(link, [*pieces, *encode(Kind.FETCHED, key, 0, number, payload=payload)])

    def send_calls(self) -> None:
        """Send workers as many calls as they have room for."""
        for slot, calls in self._dispatcher.assign():
            link = self.links[slot.number]
            first = calls[0]
            if first.limits is not None and first.limits.memory is not None:
                self.segments.withdraw_from(link)
            pieces = self._encode(link, calls, self._kind_of(first))
            self._forget_definitions()
            self.send(link, pieces)
            link.tokens.put(bytes((slot.generation,)) * len(calls))

    def _kind_of(self, call: PoolFuture) -> int:
        """Calls that may run for some time report when they begin; so do calls with limits, which are sent alone."""
        if call.limits is not None:
            return Kind.ANNOUNCED_TASK if call.limits.cpu_time is None else Kind.MEASURED_TASK
        return Kind.ANNOUNCED_TASK if self._dispatcher.expected >= SHARING_DELAY_SECONDS else Kind.TASK

    def _encode(self, link: Link, calls: Iterable[PoolFuture], kind: int) -> list[Buffer]:
        """Calls as frames, with the definitions that the worker does not know."""
        knows, generation = link.knows, link.slot.generation
        frames: list[Buffer] = []
        for call in calls:
            assert call.payload, "only packed calls are assigned"
            number, payload, buffers, uses = call.payload
            for definition in uses:
                if definition.number not in knows:  # 0, the number of loans, is always known
                    frames += self._definition_frames(link, definitions_of([definition]))
            if type(buffers) is Packed:
                if frames:
                    self.send(link, frames)
                    frames = []
                self.segments.lend(link, buffers)
            frames += encode(kind, call.key, generation, number, self.measures, 0.0, payload, buffers)
        return frames

    def _definition_frames(self, link: Link, definitions: Iterable[Definition]) -> list[Buffer]:
        return [
            piece for kind, number, payload in link.news(definitions) for piece in encode(kind, number, payload=payload)
        ]

    def _forget_definitions(self) -> None:
        forgotten = self.packer.definitions.forgotten
        while forgotten:
            number = forgotten.popleft()
            for link in self.links.values():
                if number in link.knows and link.slot.ready:  # nothing may be sent before the INIT frame
                    link.knows.discard(number)
                    self.send(link, encode(Kind.FORGET, number))

    def send(self, link: Link, pieces: list[Buffer]) -> None:
        """Send frames: as much as possible now, and the rest when the socket is writable."""
        if sum(map(len, pieces)) < MAX_JOINED_BYTES:
            pieces = [b"".join(pieces)]
        link.send(pieces)
        if link.unsent:
            self._flush(link)

    def _flush(self, link: Link) -> None:
        if link.silent_since is not None:
            link.unsent.clear()
            return
        link.flush()
        if bool(link.unsent) != link.waits_to_send:
            link.waits_to_send = bool(link.unsent)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.unsent else 0)
            self._selector.modify(link.frames, events, link)

    def share(self) -> None:
        """Take calls back from a worker that has been running one for some time, while another is idle."""
        if self.share_at is None or time.monotonic() < self.share_at:
            return
        self.share_at = self._blocking = None
        slot = self._dispatcher.to_share()
        if slot is not None:
            self.take_back(self.links[slot.number])

    def plan_sharing(self) -> bool:
        """Set when to share the calls that wait behind a worker's current one; returns whether that is new."""
        slot = self._dispatcher.to_share()
        blocking = None if slot is None else slot.sent[0].key
        if blocking == self._blocking:
            return False
        self._blocking = blocking
        self.share_at = None if blocking is None else time.monotonic() + SHARING_DELAY_SECONDS
        return blocking is not None

    def take_back(self, link: Link) -> None:
        """Take back the calls that the worker has not begun."""
        tokens = link.take_tokens()
        if tokens and self._dispatcher.take_back(link.slot, tokens):
            self.send(link, encode(Kind.TASK, PING, link.slot.generation, payload=_EMPTY_CALL))
            link.tokens.put(bytes((link.slot.generation,)))

    # ------------------------------------------------------------------ from the workers

    def begun(self, slot: WorkerSlot) -> PoolFuture | None:
        """The call that a worker is running; None if there is none."""
        if not slot.sent:
            return None
        first, link = slot.sent[0], self.links.get(slot.number)
        if link is None:
            return None  # reentrant code on this thread asks between two steps
        is_begun = first.begun_at is not None or link.tokens.count() < len(slot.sent)
        return first if is_begun else None

    def handle(self, events: Iterable[tuple[selectors.SelectorKey, int]]) -> None:
        """Handle the events of the selector."""
        for key, mask in events:
            if key.data is self.forwarding and key.data is not None:
                continue  # see below
            if key.data is None:  # a wake-up
                with contextlib.suppress(BlockingIOError):
                    key.fileobj.recv(4096)  # type: ignore[union-attr]
                continue
            if mask & selectors.EVENT_WRITE:
                self._flush(key.data)
            if mask & selectors.EVENT_READ:
                self._receive(key.data)
        self.forward()

    def forward(self) -> None:
        """Forward workers' lines to the resource tracker, before later outcomes are delivered."""
        if self.forwarding is not None:
            self.forwarding.forward()

    def _receive(self, link: Link) -> None:
        try:
            if link.decoder.receive(link.frames):
                self.handle_frames(link)
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # reset: it was killed with unread data
        except ProtocolError as error:
            self.mark_for_kill(link, error)
            return
        # Nothing more arrives from the worker: it has ended, or its function has closed the socket.
        self._selector.unregister(link.frames)
        link.unsent.clear()
        link.silent_since = time.monotonic()
        self.manager_wanted = True

    def handle_frames(self, link: Link) -> None:
        """Handle the frames received from a worker.

        Raises:
            ProtocolError: A worker cannot have sent this.
        """
        while frames := link.decoder.frames():
            for frame in frames:
                kind = frame.kind
                if kind in OUTCOMES:
                    self._finish(link, frame)
                elif kind == Kind.READY:
                    link.pid = frame.key  # its starter may report it later, or never
                    link.slow_at = None
                    self.manager_wanted = True  # it no longer has to look whether this one is slow
                    if link.reason is None:  # else it comes too late, and is to be killed
                        self._dispatcher.worker_ready(link.slot)
                    self.slowest_start = max(self.slowest_start, time.monotonic() - link.requested_at)
                elif kind == Kind.BEGUN:
                    self._begun(link, frame)
                elif kind == Kind.USED:
                    _note_usage(link, frame)
                elif kind in ABOUT_SEGMENTS:
                    self.segments.handle(link, frame)
                elif kind == Kind.FETCH:
                    self.questions.append(Question(link, frame.key, *pickle.loads(frame.payload)))
                else:
                    self._handle_end(link, frame)
        self._quick_function = None

    def _handle_end(self, link: Link, frame: Frame) -> None:
        """Handle a worker's report that it is ending, and why."""
        kind = frame.kind
        if kind == Kind.ENDING:
            link.ending = bytes(frame.payload).decode()
            return
        if kind == Kind.INIT_FAILED:
            link.failure = pickle.loads(frame.payload)
        elif kind == Kind.GROWN:
            link.slot.retired = True
            self.take_back(link)
        else:
            raise ProtocolError(f"received a frame of kind {kind}, which no worker sends")
        self.manager_wanted = True

    def _begun(self, link: Link, frame: Frame) -> None:
        sent = link.slot.sent
        if not sent or sent[0].key != frame.key:
            return  # cancelled
        call = sent[0]
        call.pid, call.begun_at = link.pid, frame.began
        if call.limits is not None and call.fn is not None:
            self.limit_monitor.watch(link, call.limits, call.fn, frame)
            self.manager_wanted = True

    def _finish(self, link: Link, frame: Frame) -> None:
        _, key, _, _, began, ended, _, _ = frame
        call = self._dispatcher.finish(link.slot, key, ended - began)
        if call is None:
            if key == PING:
                self._dispatcher.note_answer(link.slot)
            return  # else it was cancelled at the last moment
        if call.limits is not None:
            self.limit_monitor.forget(link)
        if link.slot.retired:
            self.manager_wanted = True
        call.pid, call.begun_at, call.ended_at = link.pid, began, ended
        call.dropped = True
        if call.fn is self._quick_function or self._is_quick(call.fn):
            self.outcomes.append((call, frame, None))
        else:
            self.unknown_outcomes.append((call, frame))

    def _is_quick(self, fn: Any) -> bool:
        is_quick = self.unpickling_pace.is_quick(fn)
        self._quick_function = fn if is_quick else None
        return is_quick

    def end(self, call: PoolFuture, error: BaseException) -> None:
        """Record that a call has ended with an error of the pool."""
        call.dropped = True
        self.outcomes.append((call, None, error))

    def mark_for_kill(self, link: Link, reason: BaseException) -> None:
        """Mark a worker to be killed; the first reason counts."""
        link.reason = link.reason or reason
        self.manager_wanted = True


def _note_usage(link: Link, frame: Frame) -> None:
    """Note what the call that ends next has used."""
    sent = link.slot.sent
    if sent and sent[0].key == frame.key:
        sent[0].usage = USAGE.unpack(frame.payload)
