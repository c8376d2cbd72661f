"""What the workers of a Dask cluster declare, as the tracker in its scheduler tells it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from amltk.scheduling._admission.amounts import units_of
from amltk.scheduling._admission.cluster import WorkerKind

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_SECONDS = 0.05
"""How many seconds pass at least between two looks at what workers declare: a thousand of them may come at once."""


class Declarations:
    """What workers declare, as of the last look. On the loop of the client, except where a method says otherwise.

    Args:
        client: The client.
        topic: The topic that is notified of changes, from the first look on.
        on_change: Called after each look at changes.

    Attributes:
        kinds: What workers have; None before the first look. May be read from any thread.
        names: The names of what they declare as they spell them, by their lower-case form. Likewise.
    """

    def __init__(self, client: Any, topic: str, on_change: Callable[[], object]) -> None:
        self.kinds: tuple[WorkerKind, ...] | None = None
        self.names: dict[str, str] = {}
        self._client = client
        self._topic = topic
        self._on_change = on_change
        self._looking = asyncio.Lock()
        self._has_changed = False  # since the last look began
        self._looker: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Ask the scheduler. One question at a time, so that no old answer comes last.

        Raises:
            OSError: The connection is lost.
        """
        async with self._looking:
            self._has_changed = False
            told: list[tuple[dict[str, float], int]] = await self._client.scheduler.amltk_declared(topic=self._topic)
            self.names = {name.lower(): name for worker, _ in told for name in worker}
            self.kinds = tuple(
                WorkerKind({name.lower(): units_of(name, amount) for name, amount in worker.items()}, count)
                for worker, count in told
            )

    def note_change(self) -> None:
        """Look again, soon."""
        self._has_changed = True
        if self._looker is None or self._looker.done():
            self._looker = asyncio.ensure_future(self._look_again())

    async def _look_again(self) -> None:
        """Ask until all is known that has changed: once for all workers that come and go within a moment."""
        with contextlib.suppress(OSError):  # the connection may be lost, which is found out elsewhere
            while self._has_changed:
                await self.look()
                self._on_change()
                await asyncio.sleep(LOOK_SECONDS)

    def stop(self) -> None:
        """Look no more. On any thread."""
        if self._looker is not None:
            self._client.loop.add_callback(self._looker.cancel)
