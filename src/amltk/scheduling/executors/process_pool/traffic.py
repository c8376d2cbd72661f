"""What goes to the workers and comes from them: calls, the definitions that these need, and outcomes.

Nothing here blocks or calls users' code. All of it happens under the engine's lock, but for `pack`.
"""

from __future__ import annotations

import contextlib
import pickle
import selectors
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from amltk._notes import add_note, safe_repr
from amltk.scheduling.executors.process_pool import main_module
from amltk.scheduling.executors.process_pool.definitions import Definition, Definitions
from amltk.scheduling.executors.process_pool.pickles import CallPickler, make_pickler
from amltk.scheduling.executors.process_pool.protocol import Buffer, Frame, Kind, ProtocolError, encode
from amltk.scheduling.executors.process_pool.warden import Warden
from amltk.scheduling.executors.unpicklable import explain_call

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    from amltk.scheduling.executors.process_pool.book import Book, Seat
    from amltk.scheduling.executors.process_pool.future import PoolFuture
    from amltk.scheduling.executors.process_pool.initializing import Initializer
    from amltk.scheduling.executors.process_pool.lending import Loan
    from amltk.scheduling.executors.process_pool.link import Link
    from amltk.scheduling.executors.process_pool.tracker import Forwarding

    Outcome: TypeAlias = tuple[PoolFuture, Frame | None, BaseException | None]
    """How a call has ended: with what a worker has sent, or with an error of the pool's own."""

SHARING_DELAY = 0.001
"""Seconds that calls wait behind another one before they are given to a worker that has nothing to do."""

OUTCOMES = frozenset({Kind.RESULT, Kind.EXCEPTION})
"""The kinds of frames that end a call."""

JOINED = 1 << 18
"""Bytes up to which what is sent at once is joined to one piece."""


class Question(NamedTuple):
    """What a worker asks for: a global of a module, or the module itself where `name` is None."""

    link: Link
    key: int
    module: str
    name: str | None


class Answer(NamedTuple):
    """What the program has."""

    question: Question
    definition: Definition | None
    payload: bytes


class Traffic:
    """See the module.

    Args:
        book: Says who gets which call.
        selector: Where the workers' sockets are registered, each with what handles it.

    Attributes:
        links: The workers, by the numbers of their seats.
        warden: Looks after the calls that have limits.
        outcomes: Calls that have ended and were not told so.
        questions: What workers wait for: names that they miss.
        staff_wanted: Whether something has happened that is not for the traffic but for the staff to handle.
        slowest_start: Seconds that a worker has taken to be ready, at most; 0.0 if none has been yet.
        share_at: When calls that wait behind another one are to be taken back, on the monotonic clock; None for never.
    """

    def __init__(self, book: Book, selector: selectors.BaseSelector) -> None:
        self.links: dict[int, Link] = {}
        self.warden: Warden = Warden()
        self.outcomes: list[Outcome] = []
        self.questions: list[Question] = []
        self.staff_wanted: bool = False
        self.slowest_start: float = 0.0
        self.share_at: float | None = None
        self.forwarding: Forwarding | None = None  # of workers' lines for the resource tracker
        self._blocking: int | None = None  # behind which call they wait
        self._book = book
        self._selector = selector
        self._definitions = Definitions()
        self._known_modules: set[str] = set()  # that calls need
        self._pickler = CallPickler(self._definitions)
        self._pickling = threading.Lock()  # held while users' code is called, so never together with the engine's

    # ------------------------------------------------------------------ to the workers

    def unpacked(self) -> list[PoolFuture]:
        """The calls that have to be packed before they can be sent, as far as workers have room for them."""
        calls: list[PoolFuture] = []
        # While there is no worker, the first one: what it needs is imported ahead of all workers.
        room = self._book.room() if self._book.seats else 1
        for call in self._book.queue:
            if not room:
                break
            if not call.dropped:
                room -= 1
                if call.parcel is None:
                    calls.append(call)
        return calls

    def take_modules(self) -> set[str]:
        """The modules that calls have turned out to need since: a worker imports them."""
        new = self._definitions.modules.copy() - self._known_modules
        self._known_modules |= new
        return new

    def pack(self, calls: Iterable[PoolFuture]) -> list[tuple[PoolFuture, BaseException]]:
        """Pickle calls, which calls users' code: not to be done under the lock, nor by two threads at once.

        Returns:
            Those that could not be pickled, and why.
        """
        problems: list[tuple[PoolFuture, BaseException]] = []
        with self._pickling:
            for call in calls:
                fn = call.fn
                try:
                    call.parcel = self._pickler.parcel(fn, call.args, call.kwargs)
                except BaseException as raised:  # noqa: BLE001 - it is the call's outcome
                    error = explain_call(raised, fn, call.args, call.kwargs, make_pickler)
                    add_note(error, f"this was raised when a call of {safe_repr(fn)} was pickled for a worker process")
                    problems.append((call, error))
        if len(self._definitions.modules) > len(self._known_modules):
            self.staff_wanted = True  # they may be imported ahead
        return problems

    def pack_initializer(self, link: Link, initialize: Initializer) -> bytes:
        """Pickle what a new worker calls first, with what it has to be told before; not under the lock, as `pack`.

        Raises:
            Exception: Whatever the methods of the user's objects raise, or a `pickle.PicklingError`.
        """
        with self._pickling:
            _, payload, buffers, uses = initialize.parcel(self._definitions)
        return pickle.dumps((list(self._news(link, _definitions(uses))), payload, list(map(bytes, buffers))), 5)

    def find_answers(self, questions: Iterable[Question]) -> list[Answer]:
        """Find what workers have asked for; not under the lock, as `pack`."""
        return [self._find_answer(question) for question in questions]

    def _find_answer(self, question: Question) -> Answer:
        _, _, module, name = question
        with self._pickling:
            try:
                if name is None:
                    told = main_module.answer(module)
                    return Answer(question, None, b"" if told is None else pickle.dumps(told))
                definition = self._definitions.of_global(module, name)
                needed = [] if definition is None else [piece.number for piece in definition.pieces]
                return Answer(question, definition, pickle.dumps(needed) if needed else b"")
            except BaseException as error:  # noqa: BLE001 - it is raised where the name is looked up
                problem = f"{name!r} of the program's {module} cannot be sent to a worker: {safe_repr(error)}"
                return Answer(question, None, problem.encode())

    def send_answers(self, answers: Iterable[Answer]) -> None:
        """Tell workers what they have asked for, as far as they are there."""
        for (link, key, _, _), definition, payload in answers:
            if self.links.get(link.seat.number) is link:
                pieces = [] if definition is None else self._definition_frames(link, [definition])
                number = 0 if definition is None else definition.number
                self.send(link, [*pieces, *encode(Kind.FETCHED, key, 0, number, payload=payload)])

    def send_calls(self) -> None:
        """Give workers what they have room for."""
        for seat, calls in self._book.assign():
            link = self.links[seat.number]
            pieces = self._encode(link, calls, self._kind_of(calls[0]))
            self._forget_definitions()
            self.send(link, pieces)
            link.tokens.put(bytes((seat.generation,)) * len(calls))

    def _kind_of(self, call: PoolFuture) -> int:
        """Who may run for some time says when it begins; so do calls that have limits, which are sent alone."""
        if call.limits is not None:
            return Kind.ANNOUNCED_TASK if call.limits.cpu_time is None else Kind.MEASURED_TASK
        return Kind.ANNOUNCED_TASK if self._book.expected >= SHARING_DELAY else Kind.TASK

    def _encode(self, link: Link, calls: Iterable[PoolFuture], kind: int) -> list[Buffer]:
        """Calls as frames, with the definitions that the worker does not know."""
        knows, generation = link.knows, link.seat.generation
        frames: list[Buffer] = []
        for call in calls:
            assert call.parcel is not None, "only packed calls are assigned"
            number, payload, buffers, uses = call.parcel
            for definition in uses:
                if definition.number not in knows:  # 0, of what is lent, is known
                    frames += self._definition_frames(link, _definitions([definition]))
            frames += encode(kind, call.key, generation, number, 0.0, 0.0, payload, buffers)
        return frames

    def _definition_frames(self, link: Link, definitions: Iterable[Definition]) -> list[Buffer]:
        return [
            piece
            for kind, number, payload in self._news(link, definitions)
            for piece in encode(kind, number, payload=payload)
        ]

    def _news(self, link: Link, definitions: Iterable[Definition]) -> Iterator[tuple[int, int, bytes]]:
        """What a worker has to be told before it can use these: kinds of frames, numbers and payloads."""
        knows = link.knows
        for definition in definitions:
            for piece in definition.pieces:
                if piece.number not in knows:
                    knows.update((piece.number, *piece.numbers))
                    yield Kind.LOAD, piece.number, piece.payload
            if definition.number not in knows:
                knows.add(definition.number)
                yield Kind.DEFINE, definition.number, definition.payload

    def forget_old_values(self) -> None:
        """Keep no value of the program's that is no global any more, unless calls are being packed right now."""
        if self._pickling.acquire(blocking=False):
            try:
                self._definitions.prune()
            finally:
                self._pickling.release()

    def forget_all(self) -> None:
        """Keep nothing of the program's: nothing is sent any more."""
        with self._pickling:
            self._definitions.clear()
            self._pickler = CallPickler(self._definitions)

    def _forget_definitions(self) -> None:
        while self._definitions.forgotten:
            number = self._definitions.forgotten.popleft()
            for link in self.links.values():
                if number in link.knows and link.seat.ready:  # nothing comes before how it begins
                    link.knows.discard(number)
                    self.send(link, encode(Kind.FORGET, number))

    def send(self, link: Link, pieces: list[Buffer]) -> None:
        """Send frames, or as much of them as goes now and the rest when it goes."""
        if sum(map(len, pieces)) < JOINED:
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
        """Take calls back from a worker that has been at one for some time, while another one has nothing to do."""
        if self.share_at is None or time.monotonic() < self.share_at:
            return
        self.share_at = self._blocking = None
        seat = self._book.to_share()
        if seat is not None:
            self.take_back(self.links[seat.number])

    def plan_sharing(self) -> bool:
        """Note when calls that wait behind the one that a worker is at are to be shared; whether that is new."""
        seat = self._book.to_share()
        blocking = None if seat is None else seat.sent[0].key
        if blocking == self._blocking:
            return False
        self._blocking = blocking
        self.share_at = None if blocking is None else time.monotonic() + SHARING_DELAY
        return blocking is not None

    def take_back(self, link: Link) -> None:
        """Take back the calls that the worker has not begun."""
        if tokens := link.take_tokens():
            self._book.take_back(link.seat, tokens)

    # ------------------------------------------------------------------ from the workers

    def begun(self, seat: Seat) -> PoolFuture | None:
        """The call that a worker is at; None if it is at none."""
        if not seat.sent:
            return None
        first = seat.sent[0]
        is_begun = first.began is not None or self.links[seat.number].tokens.count() < len(seat.sent)
        return first if is_begun else None

    def handle(self, events: Iterable[tuple[selectors.SelectorKey, int]]) -> None:
        """Handle what the selector has found."""
        for key, mask in events:
            if key.data is self.forwarding and key.data is not None:
                continue  # see below
            if key.data is None:  # somebody wants to be noticed
                with contextlib.suppress(BlockingIOError):
                    key.fileobj.recv(4096)  # type: ignore[union-attr]
                continue
            if mask & selectors.EVENT_WRITE:
                self._flush(key.data)
            if mask & selectors.EVENT_READ:
                self._receive(key.data)
        self.forward()

    def forward(self) -> None:
        """Forward what workers have written for the resource tracker, before what came after it is told."""
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
            pass  # reset, since it was killed with something unread
        except ProtocolError as error:
            self.condemn(link, error)
            return
        # Nothing more comes from the worker: it has ended, or its function has closed the socket.
        self._selector.unregister(link.frames)
        link.unsent.clear()
        link.silent_since = time.monotonic()
        self.staff_wanted = True

    def handle_frames(self, link: Link) -> None:
        """Handle what was received from a worker.

        Raises:
            ProtocolError: No worker sends that.
        """
        while frames := link.decoder.frames():
            for frame in frames:
                kind = frame.kind
                if kind in OUTCOMES:
                    self._finish(link, frame)
                elif kind == Kind.READY:
                    self._book.welcome(link.seat)
                    link.slow_at = None
                    self.slowest_start = max(self.slowest_start, time.monotonic() - link.requested_at)
                elif kind == Kind.BEGUN:
                    self._begun(link, frame)
                elif kind == Kind.FETCH:
                    self.questions.append(Question(link, frame.key, *pickle.loads(frame.payload)))
                elif kind == Kind.INIT_FAILED:
                    link.failure = pickle.loads(frame.payload)
                    self.staff_wanted = True
                elif kind == Kind.ENDING:
                    link.ending = bytes(frame.payload).decode()
                else:
                    raise ProtocolError(f"received a frame of kind {kind}, which no worker sends")

    def _begun(self, link: Link, frame: Frame) -> None:
        sent = link.seat.sent
        if not sent or sent[0].key != frame.key:
            return  # cancelled
        call = sent[0]
        call.pid, call.began = link.pid, frame.began
        if call.limits is not None and call.fn is not None:
            self.warden.watch(link, call.limits, call.fn, frame)
            self.staff_wanted = True

    def _finish(self, link: Link, frame: Frame) -> None:
        _, key, _, _, began, ended, _, _ = frame
        call = self._book.finish(link.seat, key, ended - began)
        if call is None:
            return  # it was cancelled at the last moment
        if call.limits is not None:
            self.warden.forget(link)
        if link.seat.retired:
            self.staff_wanted = True
        call.pid, call.began, call.ended = link.pid, began, ended
        call.dropped = True
        self.outcomes.append((call, frame, None))

    def end(self, call: PoolFuture, error: BaseException) -> None:
        """Note that a call has ended with an error of the pool's own."""
        call.dropped = True
        self.outcomes.append((call, None, error))

    def condemn(self, link: Link, reason: BaseException) -> None:
        """Have a worker ended; the first reason counts."""
        link.reason = link.reason or reason
        self.staff_wanted = True


def _definitions(uses: Iterable[Definition | Loan]) -> list[Definition]:
    return [use for use in uses if isinstance(use, Definition)]
