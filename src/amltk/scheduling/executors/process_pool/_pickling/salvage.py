"""Loads the rest of a piece in which an object could not be unpickled. Imported only when that has happened.

The pickles of a piece share one memo: a later one refers by number to objects of an earlier one. If loading ends in the
middle, the memo lacks what would have come, and all later numbers are wrong. So the pickle is loaded again, in Python,
to its end: what raises is replaced by a gap, what a gap gets into is broken, and all else is what it should be.
"""

from __future__ import annotations

import pickle
import pickletools
from typing import TYPE_CHECKING, Any

from amltk import _compat

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Mapping

_UP_TO_MARK = -1

_OPERANDS: dict[bytes, tuple[int, bool]] = {
    pickle.STACK_GLOBAL: (2, False),
    pickle.EXT1: (0, False),
    pickle.EXT2: (0, False),
    pickle.EXT4: (0, False),
    pickle.BINPERSID: (1, False),
    pickle.REDUCE: (2, False),
    pickle.NEWOBJ: (2, False),
    pickle.NEWOBJ_EX: (3, False),
    pickle.BUILD: (2, True),
    pickle.TUPLE1: (1, False),
    pickle.TUPLE2: (2, False),
    pickle.TUPLE3: (3, False),
    pickle.TUPLE: (_UP_TO_MARK, False),
    pickle.FROZENSET: (_UP_TO_MARK, False),
    pickle.APPEND: (2, True),
    pickle.APPENDS: (_UP_TO_MARK, True),
    pickle.ADDITEMS: (_UP_TO_MARK, True),
    pickle.SETITEM: (3, True),
    pickle.SETITEMS: (_UP_TO_MARK, True),
}
"""How many objects an operation takes from the stack, and whether it changes the one below them (or the first of them)
instead of making another. Those that are not here do neither."""


class _Gap:
    """Stands for an object that could not be made."""


def memo_before(pickles: memoryview, at: int, sizes: Iterable[int], memo: Mapping[int, Any]) -> dict[int, Any]:
    """The part of a memo that comes from complete pickles.

    Args:
        pickles: The pickles, one after the other.
        at: Where the first of them begins.
        sizes: The sizes of those that are complete.
        memo: The memo, to which one more pickle may have added.
    """
    number = 0
    for size in sizes:
        number += sum(opcode.name == "MEMOIZE" for opcode, _, _ in pickletools.genops(bytes(pickles[at : at + size])))
        at += size
    return {key: memo[key] for key in range(number)}


def _tolerant(operation: Callable[[Any], None], number: int, *, changes: bool) -> Callable[[Any], None]:
    """An operation that leaves a gap where it raises."""

    def operate(unpickler: Salvager) -> None:
        marks, below = len(unpickler.metastack), len(unpickler.stack) - number
        if number != _UP_TO_MARK:
            taken = unpickler.stack[below:]
        else:
            taken = [*unpickler.metastack[-1][-1:], *unpickler.stack] if changes else unpickler.stack
        problem = unpickler.problem_of(taken)
        if problem is None:
            try:
                operation(unpickler)
            except BaseException as error:  # noqa: BLE001 - raised again by the calls that use it
                problem = error
            else:
                return
        if number != _UP_TO_MARK:
            del unpickler.stack[below + changes :]
        elif len(unpickler.metastack) == marks:
            unpickler.pop_mark()
        unpickler.spoil(problem, makes=not changes)

    return operate


class Salvager(_compat.python_unpickler()):  # type: ignore[misc] # a class that is only known at run time
    """Loads pickles that share a memo, in spite of what raises within them.

    Args:
        file: The file with the pickles.
        memo: The memo of those before.
        look_up: Returns the object for a number that stands for it.
    """

    def __init__(self, file: io.BytesIO, memo: dict[int, Any], look_up: Callable[[Any], Any]) -> None:
        super().__init__(file)
        self.memo = memo
        self.persistent_load = look_up
        # By id, with the object, so that the id stays its own.
        self._problems: dict[int, tuple[Any, BaseException]] = {}
        self._ended: BaseException | None = None

    def load(self) -> Any:
        """Load the next pickle.

        Raises:
            BaseException: What was raised while an object was made that the loaded one contains.
        """
        if self._ended is not None:
            raise self._ended
        try:
            loaded = super().load()
        except BaseException as error:
            self._ended = error  # not by an object: from here on, no number is certain
            raise
        problem = self.problem_of([loaded])
        if problem is not None:
            raise problem
        return loaded

    def problem_of(self, taken: Iterable[Any]) -> BaseException | None:
        """Why one of these objects is broken; None if none is."""
        return next((self._problems[id(obj)][1] for obj in taken if id(obj) in self._problems), None)

    def spoil(self, problem: BaseException, *, makes: bool) -> None:
        """Leave a gap in place of a new object, or mark the one that was to be changed."""
        if makes:
            self.stack.append(_Gap())
        self._problems[id(self.stack[-1])] = (self.stack[-1], problem)

    dispatch = _compat.python_unpickler().dispatch | {
        code[0]: _tolerant(_compat.python_unpickler().dispatch[code[0]], number, changes=changes)
        for code, (number, changes) in _OPERANDS.items()
    }
