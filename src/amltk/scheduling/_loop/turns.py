"""Turns of the loop between two inputs: coroutines that one input has made ready continue before the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

TURNS_AFTER_FUTURE = 3
"""Turns after the end of an awaited future: through a task or a `gather`, it takes this many to arrive."""

MAX_TURNS = 20
"""The maximum number of turns after one input: a coroutine that awaits `sleep(0)` in a loop is always ready."""


class Turns:
    """Says whether the loop needs another turn before the last input is over. On the loop's thread.

    While coroutines of callbacks are in progress, there is at least one turn after each input: they may have started
    tasks that are unknown here. Without coroutines this costs nothing.

    Attributes:
        alive: Whether coroutines are in progress.
        needed: Whether to call `take`; set it to `alive` when an input is taken.
    """

    __slots__ = ("_awaited", "_least", "_taken", "alive", "needed")

    def __init__(self) -> None:
        self._awaited: dict[asyncio.Task[Any], Any] = {}  # what each coroutine waits for; None if it can go on
        self._taken = 0
        self._least = 0
        self.alive: bool = False
        self.needed: bool = False

    def at(self, task: asyncio.Task[Any], awaited: Any) -> None:
        """Note that a coroutine has begun, or waits: for a future, or only for its next turn (None)."""
        self._awaited[task] = awaited
        self.alive = self.needed = True

    def interrupted(self, task: asyncio.Task[Any]) -> None:
        """Note that something is thrown into a coroutine where it waits."""

    def over(self, task: asyncio.Task[Any]) -> None:
        """Note that a coroutine has ended, or was given up."""
        self._awaited.pop(task, None)
        self.alive = bool(self._awaited)

    def expect_steps(self) -> None:
        """Note that an awaited future has ended."""
        self._least = TURNS_AFTER_FUTURE
        self.needed = True

    def take(self) -> bool:
        """Whether the loop is to have another turn. False once everything that could continue has continued."""
        least = self._least or min(1, len(self._awaited))
        if self._taken < least or (self._taken < MAX_TURNS and self._is_anything_ready()):
            self._taken += 1
            return True
        self._taken = self._least = 0
        self.needed = False
        return False

    def _is_anything_ready(self) -> bool:
        if len(self._awaited) > MAX_TURNS:
            return False  # checking all of them after each input would not scale
        return any(awaited is None or awaited.done() for awaited in self._awaited.values())
