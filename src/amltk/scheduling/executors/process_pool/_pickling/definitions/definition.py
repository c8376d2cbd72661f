"""What a call refers to: an object in its state for the call, and everything that it needs."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors.process_pool._pickling.definitions.pieces import MISSING

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable

    from amltk.scheduling.executors.process_pool._pickling.definitions.pieces import Entry, Global, Piece


class Definition:
    """An object in its state for a call, with everything that it needs.

    Args:
        number: The number by which calls refer to it.
        root: The object.
        entries: The globals that it needs.
        required: Those of them without which it cannot be called.
        used: The globals, with their values, that determine whether it is current.
        sizes: The number of globals in modules of which any global may be used.
        forgotten: Receives the number when neither a call nor `Definitions` needs it any more.

    Attributes:
        payload: What a worker stores, see `worker_state.define`.
        pieces: The pieces that it must load first, in this order.
    """

    def __init__(
        self,
        number: int,
        root: Entry,
        *,
        entries: Iterable[Entry],
        required: Iterable[Entry],
        used: dict[Global, Any],
        sizes: dict[str, int],
        forgotten: deque[int],
    ) -> None:
        self.number: int = number
        self.root: Entry = root
        self.payload: bytes = pickle.dumps((root.number, [entry.number for entry in required]))
        self.pieces: tuple[Piece, ...] = tuple(_in_order([root, *entries]))
        self.used: tuple[tuple[dict[str, Any], str, Any], ...] = tuple(
            (vars(sys.modules[key.module]), key.name, value) for key, value in used.items()
        )
        self._entries = tuple(entries)
        self._sizes = [(vars(sys.modules[module]), size) for module, size in sizes.items()]
        self._forgotten = forgotten

    def is_current(self) -> bool:
        """Whether the modules still have the same values under these names."""
        for present, name, value in self.used:
            if present.get(name, MISSING) is not value:
                return False
        for present, size in self._sizes:  # noqa: SIM110 - runs for each call: a generator would be slower
            if len(present) != size:
                return False
        return True

    def __del__(self) -> None:
        self._forgotten.append(self.number)


def _in_order(entries: list[Entry]) -> list[Piece]:
    """The pieces that contain these objects and those that they refer to: a piece comes after those it refers to."""
    found: dict[int, Piece] = {}
    todo = [entry.piece for entry in entries]
    while todo:
        piece = todo.pop()
        if piece.number not in found:
            found[piece.number] = piece
            todo += [need.piece for need in piece.needs]
    return [found[number] for number in sorted(found)]
