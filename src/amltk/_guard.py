"""Keeps a program from starting itself without end, through a worker that imports it or through nesting."""

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
"""The environment variable with the number of pools above this process, each inside a call of the one above."""

MAX_DEPTH = "AMLTK_MAX_DEPTH"
"""The environment variable that sets how deep pools and runs may be nested."""

DEFAULT_MAX_DEPTH = 8


class Loading:
    """A context manager around loading code to compute for others; at most one thread is inside at a time.

    Loading imports modules. Such a module may be a program without a main guard, which would start workers that import
    it again. See `check`.

    Attributes:
        frame: The frame in which something is being loaded; None otherwise. May be set directly, since entering the
            context takes three calls.
    """

    def __init__(self) -> None:
        self.frame: FrameType | None = None
        self._threads: weakref.WeakKeyDictionary[threading.Thread, str] = weakref.WeakKeyDictionary()

    def __enter__(self) -> None:
        self.frame = sys._getframe(1)

    def __exit__(self, *_: object) -> None:
        self.frame = None

    def module(self) -> str | None:
        """The module on whose behalf the calling thread runs, as "module 'name' (file)"; None if there is none.

        It is the innermost module that the thread is importing as part of loading. A thread that such a module has
        started runs on its behalf for its whole life.
        """
        outermost, found = self.frame, None
        frame: FrameType | None = sys._getframe(1) if outermost is not None else None
        while frame is not None and frame is not outermost:
            if found is None and frame.f_code.co_name == "<module>":
                found = frame
            frame = frame.f_back
        if frame is None:  # nothing is being loaded, or only by another thread
            return self._threads.get(threading.current_thread())
        if found is None:
            return None
        return f"module {found.f_globals.get('__name__', '?')!r} ({found.f_code.co_filename})"

    def starter_of(self, thread: threading.Thread) -> str | None:
        """The module on whose behalf a thread was started, formatted as in `module`; None if there is none."""
        return self._threads.get(thread)

    def note_thread(self, thread: threading.Thread) -> None:
        """Record that the calling thread starts another one."""
        module = self.module()
        if module is not None:
            self._threads[thread] = module


loading = Loading()
"""The instance of this process."""


def check_import(what: str) -> None:
    """Refuse to start something on behalf of a module that a worker is importing.

    Args:
        what: What is being started; the message begins with it.

    Raises:
        NestingError: The calling thread runs on behalf of such a module.
    """
    module = loading.module()
    if module is not None:
        raise NestingError(
            f"{what} was started while a worker process was importing {module}. The worker only needs what the "
            "module defines, and workers would start workers without end. Put the start under "
            '`if __name__ == "__main__":` in that module'
        )


def check(what: str) -> None:
    """Refuse to start a pool or a run that would start itself again without end; see `check_import`.

    Raises:
        NestingError: A worker is importing the module that starts it, or pools are nested too deep.
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
    """Record in the environment, which child processes inherit, that this process is a worker."""
    os.environ[DEPTH] = str(_number(DEPTH, 0) + 1)


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    try:
        return int(text) if text else default
    except ValueError:
        raise ValueError(f"the environment variable {variable} is {text!r}; it must be a whole number") from None
