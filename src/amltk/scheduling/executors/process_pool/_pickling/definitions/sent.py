"""The objects that a pool has sent to its workers."""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from types import ModuleType
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors.process_pool._pickling.by_value import DEFINED
from amltk.scheduling.executors.process_pool._pickling.definitions.pieces import MISSING, Entry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from amltk.scheduling.executors.process_pool._pickling.definitions.pieces import Global

_ATOMS = (int, float, complex, bool, str, bytes, type(None), type(...), ModuleType)
"""Types whose values may be duplicated without any difference."""


class SentObjects:
    """The objects that workers have, by the globals that they are or by their ids. Not thread-safe.

    Attributes:
        modules: The names of modules from which pickled objects have imported something.
        forgotten: Numbers that are no longer needed.
    """

    def __init__(self) -> None:
        self._globals: dict[Global, Entry] = {}
        self._others: dict[int, tuple[Any, Entry]] = {}  # by id, with what removes the entry in time
        self._versions: dict[Global, tuple[int, Any]] = {}
        self._left_out: dict[Global, tuple[Any, bool]] = {}  # values, and whether they are too large
        self._numbers = itertools.count(1)
        self.modules: set[str] = set()
        self.forgotten: deque[int] = deque()

    def current(self, key: Global) -> Entry | None:
        """The entry of a global, if its current value was sent to workers."""
        entry = self._globals.get(key)
        return entry if entry is not None and entry.value is key.value else None

    def other(self, obj: Any) -> Entry | None:
        """The entry of an object that is not a global."""
        known = self._others.get(id(obj))
        return None if known is None else known[1]

    def among(self, ids: Iterable[int]) -> dict[int, Entry]:
        """The objects with these ids, other than those that pickles refer to anyway or may duplicate."""
        known = {
            id(entry.value): entry
            for entry in self._globals.values()
            if type(entry.value) not in _ATOMS and not isinstance(entry.value, DEFINED)
        }
        return {key: known[key] for key in known.keys() & ids}

    def new_number(self) -> int:
        """An unused number."""
        return next(self._numbers)

    def new_entry(self, place: Global | None, value: Any) -> Entry:
        """Create an entry, for a piece."""
        return Entry(self.new_number(), place, None if place is None else value, self.forgotten)

    def version(self, key: Global, value: Any) -> int:
        """How many values this global has had, including the current one; 1 for a new one."""
        version, known = self._versions.get(key, (0, None))
        if not version or known is not value:
            version += 1
            self._versions[key] = (version, value)
        return version

    def keep(self, entries: Iterable[tuple[Entry, Any]]) -> None:
        """Remember the objects of a piece."""
        for entry, value in entries:
            if entry.place is not None:
                self._globals[entry.place] = entry
            else:
                key = id(value)
                self._others[key] = (weak_if_possible(value, lambda _, key=key: self._others.pop(key, None)), entry)

    def is_left_out(self, key: Global, value: Any, *, whatever_size: bool) -> bool:
        """Whether a global that is only a guess was found to be impossible to send, or too large."""
        known, is_large = self._left_out.get(key, (MISSING, False))
        return known is value and not (is_large and whatever_size)

    def leave_out(self, key: Global, value: Any, *, is_large: bool) -> None:
        """Do not try to send it again."""
        self._left_out[key] = (value, is_large)

    def prune(self) -> None:
        """Release values that are no longer globals: after reassigning one, a program wants the old value freed."""
        for key in [key for key, entry in self._globals.items() if not key.still_has(entry.value)]:
            del self._globals[key]
        for key, (version, value) in list(self._versions.items()):
            if not key.still_has(value):
                self._versions[key] = version, MISSING
        for key in [key for key, (value, _) in self._left_out.items() if not key.still_has(value)]:
            del self._left_out[key]

    def clear(self) -> None:
        """Release everything."""
        for known in (self._globals, self._others, self._versions, self._left_out):
            known.clear()


def weak_if_possible(obj: Any, callback: Any) -> Any:
    """A weak reference, whose callback removes what is stored by the object's id before that can be reused.

    Returns:
        The object itself if it allows no weak reference, such as a type alias: it stays alive, and keeps its id.
    """
    try:
        return weakref.ref(obj, callback)
    except TypeError:
        return obj
