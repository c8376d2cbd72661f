"""The parts of definitions: pieces, the objects in them, and the globals that these objects are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable

    from amltk.scheduling.executors.process_pool._pickling.descriptor_lending import Loan

MISSING = object()
"""Stands for the value of a name that a module does not have."""


class Global(NamedTuple):
    """A name of a module that travels."""

    module: str
    name: str

    @property
    def value(self) -> Any:
        """The current value; `MISSING` if there is none."""
        return vars(sys.modules[self.module]).get(self.name, MISSING)

    def still_has(self, value: Any) -> bool:
        """Whether the module exists, and this is its current value."""
        return self.module in sys.modules and self.value is value


class Entry:
    """One object that is sent to workers.

    Args:
        number: The number by which others refer to it.
        place: The global that it is, or None.
        value: The object; None if it is not a global, since it must not be kept alive then.
        forgotten: Receives the number when it is no longer needed.

    Attributes:
        piece: The piece that contains it.
        uses: The globals that it uses itself; False for guesses.
        open: Modules of which it may use any global.
    """

    def __init__(self, number: int, place: Global | None, value: Any, forgotten: deque[int]) -> None:
        self.number: int = number
        self.place: Global | None = place
        self.value: Any = value
        self.piece: Piece
        self.uses: dict[Global, bool] = {}
        self.open: set[str] = set()
        self._forgotten = forgotten

    def __del__(self) -> None:
        self._forgotten.append(self.number)


class Piece:
    """Objects that were pickled together.

    Args:
        number: The number of the piece.
        payload: What a worker loads, see `worker_state.load`.
        numbers: The numbers of the objects.
        needs: Objects of earlier pieces to which it refers.
        forgotten: Receives the number when it is no longer needed.

    Attributes:
        loans: Descriptors that it refers to.
    """

    def __init__(
        self, number: int, payload: bytes, numbers: list[int], needs: Iterable[Entry], forgotten: deque[int]
    ) -> None:
        self.number: int = number
        self.payload: bytes = payload
        self.numbers: list[int] = numbers
        self.needs: tuple[Entry, ...] = tuple(needs)
        self.loans: list[Loan] = []
        self._forgotten = forgotten

    def __del__(self) -> None:
        self._forgotten.append(self.number)
