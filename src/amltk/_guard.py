"""Keeps a program from starting itself without end: from a worker that imports it, and by nesting."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING

from amltk.exceptions import NestingError

if TYPE_CHECKING:
    from types import FrameType

DEPTH = "AMLTK_DEPTH"
"""The environment variable that says how many pools there are above this process, one inside a call of the other."""

MAX_DEPTH = "AMLTK_MAX_DEPTH"
"""The environment variable that sets how deep processes may start anything."""

DEFAULT_MAX_DEPTH = 8


class Loading:
    """A context manager around what this process loads to compute for others: at most one thread at a time.

    While something is loaded, modules are imported. Such a module may be a program without a main guard, which would
    start workers that import it again. See `check`.

    Attributes:
        frame: In which something is being loaded, None while nothing is. May be set instead of entering the context,
            which takes three calls.
    """

    def __init__(self) -> None:
        self.frame: FrameType | None = None
        self._threads: weakref.WeakKeyDictionary[threading.Thread, str] = weakref.WeakKeyDictionary()

    def __enter__(self) -> None:
        self.frame = sys._getframe(1)

    def __exit__(self, *_: object) -> None:
        self.frame = None

    def module(self) -> str | None:
        """On whose behalf the calling thread is running: "module 'name' (file)".

        It is the innermost module that the thread is importing because something is being loaded. A thread that such a
        module has started runs on its behalf for as long as it lives. None where there is no such module.
        """
        outermost, found = self.frame, None
        frame: FrameType | None = sys._getframe(1) if outermost is not None else None
        while frame is not None and frame is not outermost:
            if found is None and frame.f_code.co_name == "<module>":
                found = frame
            frame = frame.f_back
        if frame is None:  # nothing is being loaded, or another thread does it
            return self._threads.get(threading.current_thread())
        if found is None:
            return None
        return f"module {found.f_globals.get('__name__', '?')!r} ({found.f_code.co_filename})"

    def starter_of(self, thread: threading.Thread) -> str | None:
        """The module on whose behalf a thread was started, as `module` says it; None if it was not on one's."""
        return self._threads.get(thread)

    def note_thread(self, thread: threading.Thread) -> None:
        """Note that the calling thread starts another one."""
        module = self.module()
        if module is not None:
            self._threads[thread] = module


loading = Loading()
"""The one of this process."""


def check_import(what: str) -> None:
    """Refuse to start something on behalf of a module that a worker is importing.

    Args:
        what: What is being started, to begin the message with.

    Raises:
        NestingError: It is started by such a module.
    """
    module = loading.module()
    if module is not None:
        raise NestingError(
            f"{what} was started while a worker process imports {module}: the worker only needs what the module "
            "defines, and workers would start workers without end. Put what starts it under "
            '`if __name__ == "__main__":` in that module'
        )


def check(what: str) -> None:
    """Refuse to start a pool or a run where it would start itself without end; see `check_import`.

    Raises:
        NestingError: A worker is importing the module that starts it, or this process is too deep.
    """
    check_import(what)
    depth, most = _number(DEPTH, 0), _number(MAX_DEPTH, DEFAULT_MAX_DEPTH)
    if depth >= most:
        raise NestingError(
            f"{what} was started {depth} levels below the program ({DEPTH}={depth}): in a worker of a pool that was "
            f"itself started in a worker, and so on. At most {most} levels are allowed, since a program that starts "
            f"itself would never end. Set the environment variable {MAX_DEPTH} to allow more"
        )


def go_deeper() -> None:
    """Note in the environment, which the children inherit, that this process is a worker."""
    os.environ[DEPTH] = str(_number(DEPTH, 0) + 1)


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    try:
        return int(text) if text else default
    except ValueError:
        raise ValueError(f"the environment variable {variable} is {text!r}; it must be a whole number") from None
