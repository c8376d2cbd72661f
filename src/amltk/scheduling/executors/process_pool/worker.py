"""What a worker process does: take a token, begin the next call, send its outcome, and so on."""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing.process
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk.scheduling.executors.failure import describe, note_result
from amltk.scheduling.executors.process_pool import here, main_module
from amltk.scheduling.executors.process_pool.pickles import pickle_outcome
from amltk.scheduling.executors.process_pool.protocol import CHUNK, Buffer, Decoder, Frame, Kind, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amltk.scheduling.executors.process_pool.main_module import Description

LOST_CONNECTION = 83
"""The exit code of a worker whose sockets were closed or written into by the function that it ran."""

PR_SET_PDEATHSIG = 1

_CALLS = frozenset({Kind.TASK, Kind.ANNOUNCED_TASK})

_TELLING = frozenset({Kind.LOAD, Kind.DEFINE})
"""Kinds of frames that an answer may refer to."""


class Start(NamedTuple):
    """How a worker begins."""

    path: list[str]
    argv: list[str]
    program: str
    """Which process has the program, see `main_module.begin`."""
    main: Description
    """Of its `__main__`."""
    directory: str
    initialize: bytes | None
    """A pickle of what is to be told before, and of the initializer and its arguments as a call has them."""
    authkey: bytes
    """Of the parent: with it, proxies of a `multiprocessing.Manager` can be used."""


def die_with_parent() -> None:
    """Have the system end this process when the one that started it ends, where it can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(frames: socket.socket, tokens: socket.socket) -> None:
    """Work until the parent hangs up, then end the process.

    Args:
        frames: For frames, both ways.
        tokens: For taking tokens; the parent takes them back from the same end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C does
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        Worker(frames, tokens).work()
    except OSError:
        os._exit(LOST_CONNECTION)
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass  # closed by the user, or nobody reads it


class Worker:
    """One worker; see `book` for the tokens."""

    def __init__(self, frames: socket.socket, tokens: socket.socket) -> None:
        self._socket = frames
        self._tokens = tokens
        self._incoming = self._frames()
        self._waiting: deque[Frame] = deque()  # what has come while an answer was waited for
        self._answers: dict[int, Frame] = {}
        self._questions = itertools.count(1)
        self._receiving = threading.RLock()  # held while frames are received, and while what they tell is taken in
        self._sending = threading.Lock()
        self._pid = os.getpid()

    def _frames(self) -> Iterator[Frame]:
        decoder = Decoder()
        while decoder.receive(self._socket):
            while frames := decoder.frames():
                yield from frames

    def _send(self, *frame: Any) -> None:
        pieces: list[Buffer] = encode(*frame)
        with self._sending:
            if sum(map(len, pieces)) < CHUNK:
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
        start = next(self._incoming, None)
        if start is None or not self._begin(pickle.loads(start.payload)):
            return
        while token := self._tokens.recv(1):
            self._call(self._next_call(token[0]))

    def _begin(self, start: Start) -> bool:
        sys.path[:] = start.path
        sys.argv[:] = start.argv
        main_module.begin(start.program, start.main)
        here.connect(self._ask)
        try:
            os.chdir(start.directory)
            multiprocessing.process.current_process().authkey = start.authkey
            if start.initialize is not None:
                self._initialize(*pickle.loads(start.initialize))
        except BaseException as error:  # noqa: BLE001 - sent to the parent
            self._send(Kind.INIT_FAILED, 0, 0, 0, 0.0, 0.0, _failure(error))
            return False
        self._send(Kind.READY)
        return True

    def _initialize(self, news: list[tuple[int, int, bytes]], payload: bytes, buffers: list[bytes]) -> None:
        for kind, number, told in news:
            self._take_in(Frame(kind, number, payload=told))
        initialize, _, _ = pickle.loads(payload, buffers=buffers)
        initialize()

    def _next_call(self, generation: int) -> Frame:
        """The call that a token of this generation is for. What was taken back is left out."""
        with self._receiving:
            while True:
                if self._waiting:  # also if it has come while the one before was taken in
                    frame = self._waiting.popleft()
                else:
                    for frame in self._incoming:  # noqa: B007 - the next one; takes less time than `next`
                        break
                    else:
                        raise ConnectionError("the parent has hung up")
                if frame.kind not in _CALLS:
                    self._take_in(frame)
                elif frame.generation == generation:
                    return frame

    def _take_in(self, frame: Frame) -> None:
        """Take in what is no call."""
        kind, number, payload = frame.kind, frame.key, bytes(frame.payload)
        if kind == Kind.LOAD:
            here.load(number, payload)
        elif kind == Kind.DEFINE:
            here.define(number, payload)
        elif kind == Kind.FORGET:
            here.forget(number)
        elif kind == Kind.FETCHED:
            self._answers[number] = frame

    def _ask(self, module: str, name: str | None) -> tuple[int, bytes]:
        """Ask the program for a name that is missing here, see `here.connect`; on any thread, whatever is computed.

        What comes meanwhile waits: it is the next calls, and what is to be forgotten when they begin.
        """
        if os.getpid() != self._pid:
            return 0, b""  # the call has forked, and this is the child: the connection is its parent's
        key = next(self._questions)
        try:
            self._send(Kind.FETCH, key, 0, 0, 0.0, 0.0, pickle.dumps((module, name)))
            while True:
                with self._receiving:
                    if key in self._answers:
                        return self._take_answer(self._answers.pop(key))
                    self._receive_for_answer()
        except OSError:
            return 0, b""  # the pool is gone

    def _receive_for_answer(self) -> None:
        frame = next(self._incoming, None)
        if frame is None:
            raise ConnectionError("the parent has hung up")
        if frame.kind == Kind.FETCHED:
            self._answers[frame.key] = frame
        else:
            self._waiting.append(frame)

    def _take_answer(self, answer: Frame) -> tuple[int, bytes]:
        """Take in what an answer refers to. All else stays in order: it may refer to what is being taken in already."""
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
        began = time.time()
        key = frame.key
        if frame.kind == Kind.ANNOUNCED_TASK:
            self._send(Kind.BEGUN, key, 0, 0, began, time.process_time())
        try:
            args: tuple[Any, ...]
            outcome: tuple[Any, ...]
            if frame.definition:
                fn = here.definition(frame.definition)
                args, kwargs = pickle.loads(frame.payload, buffers=frame.buffers)
            else:
                fn, args, kwargs = pickle.loads(frame.payload, buffers=frame.buffers)
            result = fn(*args, **kwargs)
            del fn, args, kwargs
        except BaseException as error:  # noqa: BLE001 - sent to the parent
            outcome = (Kind.EXCEPTION, key, 0, 0, began, time.time(), _failure(error))
        else:
            ended = time.time()
            try:
                payload, buffers = pickle_outcome(result)
                outcome = (Kind.RESULT, key, 0, 0, began, ended, payload, buffers)
            except BaseException as error:  # noqa: BLE001 - sent to the parent
                note_result(error, result)
                outcome = (Kind.EXCEPTION, key, 0, 0, began, ended, _failure(error))
        if os.getpid() != self._pid:
            os._exit(0)  # the call has forked, and this is the child: the outcome is its parent's to tell
        self._send(*outcome)


def _failure(error: BaseException) -> bytes:
    """An exception, pickled for its way to the parent."""
    return pickle.dumps(describe(error, _in_band))


def _in_band(error: BaseException) -> bytes:
    payload, buffers = pickle_outcome(error)
    return pickle.dumps(error, 5) if buffers else payload


def run(frames: int, tokens: int) -> None:
    """Be a worker, in a fresh interpreter of its own."""
    die_with_parent()
    main(socket.socket(fileno=frames), socket.socket(fileno=tokens))
    os._exit(0)
