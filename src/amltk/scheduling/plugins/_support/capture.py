"""Sends what a call prints to a file."""

from __future__ import annotations

import ctypes
import io
import os
import sys
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

from amltk.scheduling.plugins._support.process_wide import ProcessWide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_STANDARD = (1, 2)


@contextmanager
def output_of_process(path: Path) -> Iterator[None]:
    """Append all that this process and its children write to their standard output and error to a file.

    Whoever writes: Python, a library in C, or a program that is started meanwhile.
    """
    streams = (sys.stdout, sys.stderr)
    _flush(*streams)
    saved = [_copy(descriptor) for descriptor in _STANDARD]
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for descriptor in _STANDARD:
            os.dup2(log, descriptor)
    finally:
        os.close(log)
    try:
        with _writer(1) as out, _writer(2) as error, redirect_stdout(out), redirect_stderr(error):
            yield  # the streams are new as well: in a notebook, the old ones write elsewhere
    finally:
        _flush(*streams)
        for descriptor, copy in zip(_STANDARD, saved, strict=True):
            _put_back(descriptor, copy)


def _writer(descriptor: int) -> TextIO:
    return open(descriptor, "w", 1, "utf-8", "backslashreplace", closefd=False)


def _copy(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:
        return None  # it is closed


def _put_back(descriptor: int, copy: int | None) -> None:
    if copy is None:
        os.close(descriptor)
    else:
        os.dup2(copy, descriptor)
        os.close(copy)


def _flush(*streams: Any) -> None:
    """Have everything written that waits in buffers, also in those of C."""
    for stream in streams:
        with suppress(AttributeError, ValueError, OSError):  # there is none, or it is closed
            stream.flush()
    ctypes.CDLL(None).fflush(None)


# ------------------------------------------------------------------ of one thread among others

_file: ContextVar[TextIO | None] = ContextVar("amltk_output", default=None)
_ROUTERS = ProcessWide()


@contextmanager
def output_of_thread(path: Path) -> Iterator[None]:
    """Append to a file what Python code prints on this thread. What C code and children write is not changed."""
    with path.open("a", 1, "utf-8", "backslashreplace") as file, _ROUTERS.hold(_routers, None):
        token = _file.set(file)
        try:
            yield
        finally:
            _file.reset(token)


@contextmanager
def _routers() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(_Router(sys.stdout)))
        stack.enter_context(redirect_stderr(_Router(sys.stderr)))
        yield


class _Router(io.TextIOBase):
    """Stands for a stream while calls in threads are captured: each thread writes to its call's file, if it has one."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str, /) -> int:
        """Write to the file of this thread's call, or to the stream."""
        return (_file.get() or self._stream).write(text)

    def flush(self) -> None:
        """Flush it."""
        (_file.get() or self._stream).flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
