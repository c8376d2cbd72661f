"""What a worker process does: take a token, begin the next call, send its outcome, and so on."""

from __future__ import annotations

import ctypes
import multiprocessing.process
import os
import pickle
import signal
import socket
import sys
import time
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk.scheduling.executors.failure import describe, note_result
from amltk.scheduling.executors.process_pool import here
from amltk.scheduling.executors.process_pool.pickles import pickle_outcome
from amltk.scheduling.executors.process_pool.protocol import CHUNK, Buffer, Decoder, Frame, Kind, encode
from amltk.scheduling.executors.process_pool.usage import baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOST_CONNECTION = 83
"""The exit code of a worker whose sockets were closed or written into by the function that it ran."""

PR_SET_PDEATHSIG = 1


class Start(NamedTuple):
    """How a worker begins."""

    path: list[str]
    argv: list[str]
    main_file: str | None
    directory: str
    initialize: bytes | None
    """A pickle of the initializer and its arguments."""
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
        self._pid = os.getpid()

    def _frames(self) -> Iterator[Frame]:
        decoder = Decoder()
        while decoder.receive(self._socket):
            while frames := decoder.frames():
                yield from frames

    def _send(self, *frame: Any) -> None:
        pieces: list[Buffer] = encode(*frame)
        if sum(map(len, pieces)) < CHUNK:
            self._socket.sendall(b"".join(pieces))
            return
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
            if os.getpid() != self._pid:
                os._exit(0)  # the call has forked, and this is the child: the outcome is its parent's to tell

    def _begin(self, start: Start) -> bool:
        sys.path[:] = start.path
        sys.argv[:] = start.argv
        main_module = types.ModuleType("__main__")
        main_module.__dict__["__builtins__"] = __builtins__
        if start.main_file is not None:
            main_module.__file__ = start.main_file
        sys.modules["__main__"] = main_module
        try:
            os.chdir(start.directory)
            multiprocessing.process.current_process().authkey = start.authkey
            if start.initialize is not None:
                initializer, initargs = pickle.loads(start.initialize)
                initializer(*initargs)
        except BaseException as error:  # noqa: BLE001 - sent to the parent
            self._send(Kind.INIT_FAILED, 0, 0, 0, 0.0, 0.0, _failure(error))
            return False
        self._send(Kind.READY)
        return True

    def _next_call(self, generation: int) -> Frame:
        """The call that a token of this generation is for. What was taken back is left out."""
        for frame in self._incoming:
            if frame.kind == Kind.DEFINE:
                self._define(frame.key, bytes(frame.payload))
            elif frame.kind == Kind.FORGET:
                here.forget(frame.key)
            elif frame.generation == generation:
                return frame
        raise ConnectionError("the parent has hung up")

    def _define(self, number: int, payload: bytes) -> None:
        try:
            obj, version = pickle.loads(payload)
        except BaseException as error:  # noqa: BLE001 - raised by the calls that use it
            obj, version = _broken_definition(error), 0
        here.define(number, obj, version)

    def _call(self, frame: Frame) -> None:
        began = time.time()
        key = frame.key
        if frame.kind != Kind.TASK:
            used = pickle.dumps(baseline()) if frame.kind == Kind.MEASURED_TASK else b""
            self._send(Kind.BEGUN, key, 0, 0, began, 0.0, used)
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
        if os.getpid() == self._pid:
            self._send(*outcome)


def _broken_definition(error: BaseException) -> Callable[..., Any]:
    def raise_it(*_args: Any, **_kwargs: Any) -> Any:
        raise error

    return raise_it


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
