"""What a forked copy of the process does first with the loops and runs that it has inherited: one hook, in order."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Protocol

from amltk import _compat

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
    for loop in list(loops):  # else a child that an exception takes out of the run would take its parent's events away
        if not loop.is_closed():
            _compat.renew_descriptors(loop)
    for run in list(runs):  # second: it wakes its loop, which must not be the parent's
        run.note_fork()


os.register_at_fork(after_in_child=_note_fork)
