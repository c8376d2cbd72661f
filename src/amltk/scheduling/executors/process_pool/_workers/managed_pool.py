"""What the parts of the workers' manager have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import selectors
    from contextlib import AbstractContextManager

    from amltk.scheduling.executors.process_pool._io.link import Link
    from amltk.scheduling.executors.process_pool._io.worker_io import WorkerIO
    from amltk.scheduling.executors.process_pool._state.dispatcher import Dispatcher
    from amltk.scheduling.executors.process_pool.options import WorkerOptions


@dataclass(eq=False)
class ManagedPool:
    """The pool whose workers are managed.

    Attributes:
        options: How to start and end workers.
        dispatcher: Decides when a worker is wanted.
        io: Has the links.
        selector: For the sockets of workers.
        lock: The lock of the pool's state; another one in a forked copy of the process.
    """

    options: WorkerOptions
    dispatcher: Dispatcher
    io: WorkerIO
    selector: selectors.BaseSelector
    lock: AbstractContextManager[object]

    @property
    def links(self) -> dict[int, Link]:
        """The workers, by the numbers of their slots."""
        return self.io.links
