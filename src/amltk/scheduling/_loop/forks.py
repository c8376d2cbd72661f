"""What a forked copy of the process does first with the loops and runs that it has inherited: one hook, in order."""

from __future__ import annotations

import os
import select
import selectors
import weakref
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio


class Forkable(Protocol):
    """A run, as a forked copy of the process sees it."""

    def note_fork(self) -> None:
        """End in this copy: the run goes on in the parent."""


loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
"""The loops that this package has made and that may be in use."""

runs: weakref.WeakSet[Forkable] = weakref.WeakSet()
"""The runs that are in progress."""


def _note_fork() -> None:
    for loop in list(loops):
        _part_with_parent(loop)
    for run in list(runs):  # second: it wakes its loop, which must not be the parent's
        run.note_fork()


def _part_with_parent(loop: asyncio.AbstractEventLoop) -> None:
    """Give a loop its own epoll object and self-pipe.

    It would otherwise share these with the parent: if a callback forks, and an exception takes the child out of the
    run, the child would take away events that the parent waits for. asyncio does not handle this.
    """
    selector: Any = getattr(loop, "_selector", None)
    if not loop.is_closed() and hasattr(select, "epoll") and isinstance(selector, selectors.EpollSelector):
        selector._selector = select.epoll()  # type: ignore[attr-defined]
        loop._close_self_pipe()  # type: ignore[attr-defined]
        loop._make_self_pipe()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_note_fork)
