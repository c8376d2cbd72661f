"""The loop of a worker process: take a token, make the next call, send its outcome, and so on."""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import multiprocessing.process
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

from amltk import _guard
from amltk._compat import is_owned
from amltk._notes import add_note
from amltk._process.limits import no_memory_to_pickle
from amltk.scheduling.executors._transfer.descriptors import socket_of
from amltk.scheduling.executors._transfer.failure import describe, note_result
from amltk.scheduling.executors._transfer.unpicklable import explain_result
from amltk.scheduling.executors.process_pool._child import library_threads, orderly_exit, spawned_main
from amltk.scheduling.executors.process_pool._child.borrowed import Borrowed
from amltk.scheduling.executors.process_pool._child.memory_guard import MemoryGuard
from amltk.scheduling.executors.process_pool._child.meter import LEAST_SECONDS, Meter
from amltk.scheduling.executors.process_pool._child.printing import print_whole_lines
from amltk.scheduling.executors.process_pool._child.start import Inheritance, Start
from amltk.scheduling.executors.process_pool._child.start_guard import loading
from amltk.scheduling.executors.process_pool._pickling import main_module, worker_state
from amltk.scheduling.executors.process_pool._pickling.pickles import make_return_pickler, pickle_outcome, pickle_part
from amltk.scheduling.executors.process_pool._state.protocol import (
    CHUNK_BYTES,
    USAGE,
    Buffer,
    Decoder,
    Frame,
    Kind,
    encode,
)
from amltk.scheduling.executors.process_pool._system import resource_tracker
from amltk.scheduling.executors.process_pool._system.descendants import join_family
from amltk.scheduling.executors.process_pool._system.memory_files import are_possible
from amltk.scheduling.executors.process_pool._system.tokens import END
from amltk.scheduling.executors.process_pool._system.usage import baseline

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from types import FrameType

    from amltk.scheduling.executors.process_pool._pickling.main_module import Description

LOST_CONNECTION = 83
"""The exit code of a worker whose sockets were closed or written to by the function that it ran."""

_CALLS = frozenset({Kind.TASK, Kind.ANNOUNCED_TASK, Kind.MEASURED_TASK})

_TELLING = frozenset({Kind.LOAD, Kind.DEFINE})
"""The kinds of frames that an answer may refer to."""

_ANSWERS = frozenset({Kind.FETCHED, Kind.GRANTED, Kind.CONTENTS})

_SEGMENTS = frozenset({Kind.MAP, Kind.UNMAP})
"""The kinds of frames about shared memory: they are handled as soon as they are received, in their order."""


def prepare(path: list[str], argv: list[Any], program: str, main: Description) -> None:
    """Set up `sys` and `__main__` like those of the user's program."""
    sys.path[:] = path
    sys.argv = argv
    main_module.begin(program, main)
    spawned_main.replace()


def main(frames: socket.socket, tokens: int, inherited: Inheritance) -> NoReturn:
    """Work until the parent hangs up, then end the process in order.

    Args:
        frames: The socket for frames, in both directions.
        tokens: A descriptor to take tokens from; the parent takes them back from the same end.
        inherited: What this process got from the one that started it.

    Raises:
        SystemExit: To be passed on to the interpreter, whose end is part of an orderly one; never for a copy.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C does
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if inherited.is_copy:
        orderly_exit.forget_parent()
    print_whole_lines()
    resource_tracker.use(inherited.tracker)
    worker = Worker(frames, tokens)
    try:
        worker.work()
    except OSError:
        os._exit(LOST_CONNECTION)
    orderly_exit.end_worker(worker.tell_ending, is_copy=inherited.is_copy)


class Worker:
    """One worker; see `dispatcher` for the tokens."""

    def __init__(self, frames: socket.socket, tokens: int) -> None:
        self._socket = frames
        self._tokens = tokens
        self._borrowed = Borrowed(frames, self._request)
        self._incoming: Any = self._frames()  # Any: for `gi_running`
        self._loading = loading()
        self._outermost: FrameType
        self._waiting: deque[Frame] = deque()  # frames that arrived while waiting for an answer
        self._answers: dict[int, Frame] = {}
        self._questions = itertools.count(1)
        self._receiving = threading.RLock()  # held while frames are received, and while they are handled
        self._sending = threading.RLock()
        self._pid = os.getpid()
        self._memory: MemoryGuard | None = None
        self._meter: Meter | None = None

    def _frames(self) -> Iterator[Frame]:
        decoder = Decoder()
        decoder.in_segment = self._borrowed.buffers
        source = self._borrowed if are_possible() else self._socket
        while decoder.receive(source):
            while frames := decoder.frames():
                yield from frames

    def _send(self, *frame: Any) -> None:
        pieces: list[Buffer] = encode(*frame)
        with self._sending:
            if sum(map(len, pieces)) < CHUNK_BYTES:
                self._socket.sendall(b"".join(pieces))
            else:
                self._send_large(pieces)

    def _send_large(self, pieces: list[Buffer]) -> None:
        views = [memoryview(piece).cast("B") for piece in pieces if len(piece)]
        while views:
            sent = self._socket.sendmsg(views[:64])
            while sent:
                size = min(sent, views[0].nbytes)
                sent -= size
                views[0] = views[0][size:]
                if not views[0].nbytes:
                    del views[0]

    def work(self) -> None:
        """See `main`."""
        self._outermost = sys._getframe()
        start = next(self._incoming, None)
        if start is None or not self._begin(pickle.loads(start.payload)):
            return
        returned = self._borrowed.returned
        while (token := os.read(self._tokens, 1)) and token != END:
            self._call(self._next_call(token[0]))
            if self._memory is not None and self._memory.is_exceeded():
                self._send(Kind.GROWN)
                self._memory = None  # one report is enough
            if returned:
                self._tell_returned()

    def _tell_returned(self) -> None:
        """Tell the pool which segments are no longer used."""
        returned = self._borrowed.returned
        while returned:
            number, is_spoilt = returned.popleft()
            self._send(Kind.RETURNED, number, 0, int(is_spoilt))

    def tell_ending(self, awaited: str) -> None:
        """Report to the parent what the end of this process waits for."""
        self._send(Kind.ENDING, 0, 0, 0, 0.0, 0.0, awaited.encode())

    def _begin(self, start: Start) -> bool:
        os.environ.update(start.variables)
        prepare(start.path, start.argv, start.program, start.main)
        worker_state.connect(self._ask)
        if start.most_memory is not None:
            self._memory = MemoryGuard(start.most_memory)
        self._borrowed.is_on = start.shares_memory
        if start.shows_faults and not faulthandler.is_enabled():
            with contextlib.suppress(OSError, ValueError, RuntimeError):  # there is no standard error stream
                faulthandler.enable()
        try:
            _guard.go_deeper()
            if start.directory is not None:
                with contextlib.suppress(OSError):  # it is gone: stay in the folder where the process was started
                    os.chdir(start.directory)
            multiprocessing.process.current_process().authkey = start.authkey
            if start.initialize is not None:
                with library_threads.following():
                    self._initialize(*pickle.loads(start.initialize))
        except BaseException as error:  # noqa: BLE001 - sent to the parent
            self._send(Kind.INIT_FAILED, 0, 0, 0, 0.0, 0.0, _failure(error))
            return False
        self._send(Kind.READY, self._pid)
        return True

    def _initialize(self, news: list[tuple[int, int, bytes]], payload: bytes, buffers: list[bytes]) -> None:
        for kind, number, told in news:
            self._take_in(Frame(kind, number, payload=told))
        with self._loading:
            initialize, _, _ = pickle.loads(payload, buffers=buffers)
        try:
            initialize()
        finally:
            if os.getpid() != self._pid:
                os._exit(0)  # it has forked, and this is the child: its parent goes on

    def _next_call(self, generation: int) -> Frame:
        """The call that a token of this generation is for. Calls that were taken back are dropped."""
        with self._receiving:
            while True:
                if self._waiting:  # even if it arrived while the one before was taken in
                    frame = self._waiting.popleft()
                else:
                    for frame in self._incoming:  # noqa: B007 - takes the next one; faster than `next`
                        break
                    else:
                        raise ConnectionError("the parent has closed the connection")
                if frame.kind not in _CALLS:
                    self._take_in(frame)
                elif frame.generation == generation:
                    return frame

    def _take_in(self, frame: Frame) -> None:
        """Take in a frame that is not a call."""
        kind, number, payload = frame.kind, frame.key, bytes(frame.payload)
        if kind == Kind.LOAD:
            with self._loading:
                worker_state.load(number, payload)
        elif kind == Kind.DEFINE:
            worker_state.define(number, payload)
        elif kind == Kind.FORGET:
            worker_state.forget(number)
        elif kind in _SEGMENTS:
            self._note_segment(frame)
        elif kind in _ANSWERS:
            self._answers[number] = frame

    def _note_segment(self, frame: Frame) -> None:
        if frame.kind == Kind.MAP:
            self._borrowed.map(frame)
        else:
            self._borrowed.unmap(frame.key)

    def _ask(self, module: str, name: str | None) -> tuple[int, bytes]:
        """Ask the program for a name that is missing here, see `worker_state.connect`. On any thread of a call."""
        answer = self._request(Kind.FETCH, 0, pickle.dumps((module, name)), self._take_answer)
        return (0, b"") if answer is None else answer

    def _request(
        self, kind: int, definition: int = 0, payload: bytes = b"", take: Callable[[Frame], Any] = lambda frame: frame
    ) -> Any:
        """Ask the pool, and take the answer before any other thread receives. None if there can be no answer.

        Other frames wait: the next calls, and what to forget when they begin.
        """
        if os.getpid() != self._pid:
            return None  # the call has forked, and this is the child: the connection is its parent's
        if is_owned(self._sending):
            return None  # a finalizer or a signal's handler, in the middle of a frame: nothing can be sent now
        key = next(self._questions)
        try:
            self._send(kind, key, 0, definition, 0.0, 0.0, payload)
            while True:
                with self._receiving:
                    if key in self._answers:
                        return take(self._answers.pop(key))
                    self._receive_for_answer()
        except OSError:
            return None  # the pool is gone

    def _receive_for_answer(self) -> None:
        if self._incoming.gi_running:
            raise BlockingIOError("a finalizer or a signal's handler asks in the middle of a frame")
        frame = next(self._incoming, None)
        if frame is None:
            raise ConnectionError("the parent has closed the connection")
        if frame.kind in _ANSWERS:
            self._answers[frame.key] = frame
        elif frame.kind in _SEGMENTS:
            self._note_segment(frame)
        else:
            self._waiting.append(frame)

    def _take_answer(self, answer: Frame) -> tuple[int, bytes]:
        """Take in what an answer refers to. All else stays in order: it may refer to what is already being loaded."""
        number, payload = answer.definition, bytes(answer.payload)
        if not number:
            return 0, payload
        needed = {number, *pickle.loads(payload)}
        told = [frame for frame in self._waiting if frame.kind in _TELLING and frame.key in needed]
        for frame in told:
            self._waiting.remove(frame)
        for frame in told:
            self._take_in(frame)
        return number, b""

    def _call(self, frame: Frame) -> None:
        began = time.monotonic()
        key = frame.key
        if frame.kind != Kind.TASK:
            used = pickle.dumps(baseline()) if frame.kind == Kind.MEASURED_TASK else b""
            self._send(Kind.BEGUN, key, 0, 0, began, 0.0, used)
        if frame.began:
            self._begin_to_measure()
        buffers: list[memoryview] = []
        try:
            args: tuple[Any, ...]
            outcome: tuple[Any, ...]
            self._loading.frame = self._outermost  # like `with`, but cheaper
            try:
                loaded = pickle.loads(frame.payload, buffers=frame.buffers)
            finally:
                self._loading.frame = None
            fn, args, kwargs = (worker_state.definition(frame.definition), *loaded) if frame.definition else loaded
            del loaded
            result = fn(*args, **kwargs)
            del fn, args, kwargs
        except BaseException as error:  # noqa: BLE001 - sent to the parent
            outcome = (Kind.EXCEPTION, key, 0, 0, began, time.monotonic(), _failure(error))
        else:
            ended = time.monotonic()
            try:
                payload, buffers, is_bound = pickle_outcome(result)
                outcome = (Kind.RESULT, key, 0, is_bound, began, ended, payload)
            except BaseException as raised:  # noqa: BLE001 - sent to the parent
                unsent = explain_result(raised, result, make_return_pickler)
                note_result(unsent, result)
                outcome = (Kind.EXCEPTION, key, 0, 0, began, ended, _failure(unsent))
        if os.getpid() != self._pid:
            os._exit(0)  # the call has forked, and this is the child: its parent sends the outcome
        if self._borrowed.returned:
            self._tell_returned()  # first, so that the next call can have them
        if frame.began:
            self._tell_usage(outcome)
        if buffers:
            self._send(*outcome, self._borrowed.put(buffers))
        else:
            self._send(*outcome)

    def _begin_to_measure(self) -> None:
        if self._meter is None:
            self._meter = Meter()
        self._meter.begin()

    def _tell_usage(self, outcome: tuple[Any, ...]) -> None:
        _, key, _, _, began, ended, _ = outcome
        if ended - began >= LEAST_SECONDS and self._meter is not None:
            self._send(Kind.USED, key, 0, 0, 0.0, 0.0, USAGE.pack(*self._meter.end()))


def _failure(error: BaseException) -> bytes:
    """An exception, pickled for the parent."""
    try:
        return pickle.dumps(describe(error, pickle_part))
    except MemoryError:
        unsent = no_memory_to_pickle("back from its worker process")
        add_note(unsent, f"raised while pickling a {type(error).__name__}")
        return pickle.dumps(describe(unsent, pickle_part))


def run(frames: int, tokens: int, parent: int, tracker_descriptor: int) -> NoReturn:
    """Run a worker in its own fresh interpreter."""
    join_family(parent)
    main(socket_of(frames), tokens, Inheritance(parent, tracker_descriptor, is_copy=False))


def run_forked(inherited: Inheritance, frames: int, tokens: int) -> NoReturn:
    """Run a worker in a process that was just forked.

    Raises:
        SystemExit: To be passed on to the interpreter; never for a copy.
    """
    try:
        os.setpgid(0, 0)  # Ctrl-C in a terminal is for the parent only
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        join_family(inherited.parent)
        _seed()
        main(socket_of(frames), tokens, inherited)
    except SystemExit:
        if not inherited.is_copy:
            raise
    except BaseException:  # noqa: BLE001 - a defect; none of the parent's code may run in a copy of it
        pass
    os._exit(1)


def _seed() -> None:
    """Give a copy of a process its own random numbers, as Python does for `random`."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
