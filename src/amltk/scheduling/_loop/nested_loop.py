"""Drives a coroutine from plain code, even inside a running event loop."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING

from amltk import _compat
from amltk.scheduling._loop import forks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@contextmanager
def running_loop_set_aside() -> Iterator[None]:
    """Let this thread run another loop, although it may be inside a callback of a running one.

    A notebook's cell and a web server's handler are called by a running loop. That loop waits, as for any slow call,
    and continues afterwards as if nothing had happened. This uses what asyncio documents for authors of event loops and
    of tasks ("Extending asyncio" in its documentation); nothing is patched.
    """
    loop: asyncio.AbstractEventLoop | None
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    if loop is None:
        yield
        return
    task = asyncio.current_task(loop)
    if task is not None:
        _compat.leave_task(loop, task)
    _compat.set_running_loop(None)
    try:
        yield
    finally:
        _compat.set_running_loop(loop)
        if task is not None:
            _compat.enter_task(loop, task)


NEEDED_DESCRIPTORS = 8
"""How many file descriptors a run needs besides those of its executor: for its loop, for signals, for an import."""


def new_loop() -> asyncio.AbstractEventLoop:
    """A new event loop, which a forked copy of the process does not share with its parent.

    Raises:
        OSError: There are too few file descriptors for a run.
    """
    _check_descriptors()
    loop = asyncio.new_event_loop()
    forks.loops.add(loop)
    return loop


def _check_descriptors() -> None:
    """Fail here rather than in the middle of creating a loop, which would leave half of one behind."""
    spare: list[int] = []
    try:
        while len(spare) < NEEDED_DESCRIPTORS:
            spare.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno not in {errno.EMFILE, errno.ENFILE}:
            raise
        from amltk._process.limits import soft_limit  # few programs need it

        raise OSError(
            error.errno,
            f"a run needs {NEEDED_DESCRIPTORS} file descriptors, and its executor more, but only {len(spare)} are left"
            f" (limit of open files, ulimit -n: {soft_limit('RLIMIT_NOFILE')}). Close files, or raise the limit, for"
            " example with resource.setrlimit",
        ) from error
    finally:
        for descriptor in spare:
            os.close(descriptor)


def drive(
    loop: asyncio.AbstractEventLoop, main: asyncio.Future[None], interrupt: Callable[[BaseException], None]
) -> None:
    """Run `loop` until `main` is done, even if something is raised out of the loop.

    An exception of a user's signal handler leaves the loop at once. So do the `KeyboardInterrupt` or `SystemExit` of a
    task, and `loop.stop()`, as a `RuntimeError`. The exception is passed to `interrupt`, and the loop continues, so
    that `main` can end cleanly.
    """
    error: BaseException | None = None
    while not main.done():
        try:
            if error is not None:
                raised, error = error, None
                interrupt(raised)  # inside the try, since it may be interrupted as well
            loop.run_until_complete(main)
        except BaseException as raised:
            if main.done():
                raise
            error = raised


async def attend(
    lives: Callable[[], list[asyncio.Task[None]]], interrupt: Callable[[BaseException], None]
) -> asyncio.CancelledError | None:
    """Wait until all of `lives` are done, even if the waiting task is cancelled.

    Each cancellation is passed to `interrupt`. After the first one, those that anyio would add on every turn of the
    loop are blocked: they repeat the same cancellation, and do not mean that a user insists.

    Returns:
        The last cancellation, which is to be raised; None if there was none.
    """
    cancelled: asyncio.CancelledError | None = None
    with ExitStack() as stack:
        while pending := lives():
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                if cancelled is None:
                    stack.enter_context(_shield())
                # Without the frames of `wait`, which since CPython 3.14 refer to the task that keeps the error.
                cancelled = error.with_traceback(None)
                interrupt(error)
    try:
        return cancelled
    finally:
        del cancelled  # its traceback refers to this frame: a reference cycle


def _shield() -> AbstractContextManager[object]:
    """Keep cancelled anyio scopes around the current task from cancelling it, and from trying to.

    If nothing has imported anyio, there are no such scopes.
    """
    anyio = sys.modules.get("anyio")
    return nullcontext() if anyio is None else anyio.CancelScope(shield=True)
