"""Turns of the loop between two inputs: what the last one has made ready to go on, goes on before the next is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

CHAIN = 3
"""Turns after the end of a future that somebody awaits: through a task, or a `gather`, it takes as many to arrive."""

MOST = 20
"""Turns before one input, at most: some coroutines are always ready, such as one that awaits `sleep(0)` in a loop."""


class Turns:
    """Says whether the loop needs another turn before the next input is taken. On the loop's thread.

    While coroutines of callbacks are under way, there is one turn before each input at least: they may have tasks of
    their own, which nobody here knows of. Without any of them this costs nothing.

    Attributes:
        needed: Whether to ask `take` at all.
    """

    __slots__ = ("_awaited", "_least", "_taken", "needed")

    def __init__(self) -> None:
        self._awaited: dict[asyncio.Task[Any], Any] = {}  # what each coroutine waits for; None if it can go on
        self._taken = 0
        self._least = 0
        self.needed: bool = False

    def at(self, task: asyncio.Task[Any], awaited: Any) -> None:
        """Note that a coroutine has begun, or waits: for a future, or only for its next turn (None)."""
        self._awaited[task] = awaited
        self.needed = True

    def over(self, task: asyncio.Task[Any]) -> None:
        """Note that a coroutine has ended, or is left alone."""
        self._awaited.pop(task, None)

    def expect_steps(self) -> None:
        """Note that a future has ended which somebody awaits."""
        self._least = CHAIN
        self.needed = True

    def take(self) -> bool:
        """Whether the loop is to have another turn before the next input; False once for each input."""
        least = self._least or min(1, len(self._awaited))
        if self._taken < least or (self._taken < MOST and self._is_anything_ready()):
            self._taken += 1
            return True
        self._taken = self._least = 0
        self.needed = bool(self._awaited)
        return False

    def _is_anything_ready(self) -> bool:
        if len(self._awaited) > MOST:
            return False  # to ask them all before each input would take longer and longer
        return any(awaited is None or awaited.done() for awaited in self._awaited.values())
