"""What starts worker processes, and reports to the pool that they have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from amltk.scheduling.executors.process_pool._workers.by_fork_server import ForkServer

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from amltk.scheduling.executors.process_pool._io.link import Link
    from amltk.scheduling.executors.process_pool._workers.fork_server.messages import Message
    from amltk.scheduling.executors.process_pool.options import Surroundings


class Starter(Protocol):
    """Starts workers. Created with environment variables for them, which apply unless this process sets them."""

    control: socket.socket
    """Readable when `reports` has something to report."""

    @property
    def is_sending(self) -> bool:
        """Whether the rest of a request waits until `control` is writable; `reports` sends it."""
        ...

    def start(self, link: Link, others: Iterable[int]) -> None:
        """Start a worker, which `reports` identifies by the number of the link's slot.

        Args:
            link: Has the worker's ends of its connection.
            others: The descriptors of the pool, which a copy of this process must not keep.

        Raises:
            OSError: This is impossible now. If the process that starts workers was killed, it is a `ConnectionError`.
        """
        ...

    def abandon(self, number: int) -> None:
        """Give up a worker that was not started yet; `reports` reports it as failed."""

    def preload(self, modules: Iterable[str]) -> None:
        """Import modules in advance, so that workers that are started from now on have them."""

    def reports(self) -> list[Message]:
        """What has happened since: workers `STARTED`, `FAILED` or `ENDED`, and modules `UNFIT` or `SKIPPED`.

        Raises:
            ConnectionError: The process that starts workers was killed, and its workers with it.
        """
        ...

    def close(self) -> None:
        """End what was needed to start workers, and what is left of them."""

    def disown(self) -> None:
        """Close its descriptors in this process, a forked copy of the one that created it."""


def make_starter(method: str, surroundings: Surroundings, others: Iterable[int]) -> Starter:
    """The starter for one of the `METHODS`.

    Args:
        method: The method.
        surroundings: The environment that workers start with.
        others: The descriptors of the pool, which a copy of this process must not keep.

    Raises:
        OSError: The starter could not be started.
    """
    if method == "fork":
        from amltk.scheduling.executors.process_pool._workers.by_fork import Fork  # few programs need it

        return Fork(surroundings)
    return ForkServer(surroundings, spawn=method == "spawn", others=others)
