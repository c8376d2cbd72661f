"""Driving a coroutine from plain code, wherever that code is called."""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import sys
import weakref
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@contextmanager
def running_loop_set_aside() -> Iterator[None]:
    """Let this thread run a loop of its own, although it may be inside a callback of another one.

    A notebook's cell and a web server's handler are called by a running loop. That loop waits, as it does for any call
    that takes long, and goes on afterwards as if nothing had happened. This uses what asyncio documents for makers of
    event loops and of tasks ("Extending asyncio" in its documentation); nothing is patched.
    """
    loop = asyncio._get_running_loop()
    if loop is None:
        yield
        return
    task = asyncio.current_task(loop)
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
        if task is not None:
            asyncio.tasks._enter_task(loop, task)


_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def new_loop() -> asyncio.AbstractEventLoop:
    """A new event loop, which a forked copy of the process does not share with its parent."""
    loop = asyncio.new_event_loop()
    _loops.add(loop)
    return loop


def _part_with_parent() -> None:
    """Give the loops of a process that was just forked something of their own to wait with.

    What epoll waits for, and what wakes a loop, is the parent's as well: a callback that forks, and leaves the run in
    the child by an exception, would otherwise take away what the parent waits for. asyncio does nothing about that.
    """
    for loop in list(_loops):
        selector: Any = getattr(loop, "_selector", None)
        if not loop.is_closed() and hasattr(select, "epoll") and isinstance(selector, selectors.EpollSelector):
            selector._selector = select.epoll()  # type: ignore[attr-defined]
            loop._close_self_pipe()  # type: ignore[attr-defined]
            loop._make_self_pipe()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_part_with_parent)


def drive(
    loop: asyncio.AbstractEventLoop, main: asyncio.Future[None], interrupt: Callable[[BaseException], None]
) -> None:
    """Run `loop` until `main` is done, also when something is raised right through the loop.

    Whatever a signal handler of the user's raises leaves the loop at once, and so do the `KeyboardInterrupt` or
    `SystemExit` of a task and `loop.stop()`, as a `RuntimeError`. It is handed to `interrupt`, and the loop goes on, so
    that `main` can end in order.
    """
    error: BaseException | None = None
    while not main.done():
        try:
            if error is not None:
                raised, error = error, None
                interrupt(raised)  # here, since that may be interrupted as well
            loop.run_until_complete(main)
        except BaseException as raised:
            if main.done():
                raise
            error = raised


async def attend(
    lives: Callable[[], list[asyncio.Task[None]]], interrupt: Callable[[BaseException], None]
) -> asyncio.CancelledError | None:
    """Wait until nothing is left of `lives`, whoever cancels the task that waits here.

    Each cancellation is handed to `interrupt`. From the first one on, those that anyio would add at every turn of the
    loop are kept off: they are that same one, and not somebody who insists.

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
                # Without the frames of `wait`, which from CPython 3.14 on know the task that keeps the error.
                cancelled = error.with_traceback(None)
                interrupt(error)
    try:
        return cancelled
    finally:
        del cancelled  # its traceback has this frame, and would keep it


def _shield() -> AbstractContextManager[object]:
    """Keep the cancelled scopes of anyio around the current task from cancelling it, and from trying to.

    A program in which nobody has imported anyio has no such scopes.
    """
    anyio = sys.modules.get("anyio")
    return nullcontext() if anyio is None else anyio.CancelScope(shield=True)
