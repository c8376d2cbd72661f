"""The definitions of a pool."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors.process_pool._pickling.definitions.builder import DefinitionBuilder
from amltk.scheduling.executors.process_pool._pickling.definitions.pickler import NeededFirst
from amltk.scheduling.executors.process_pool._pickling.definitions.pieces import Global
from amltk.scheduling.executors.process_pool._pickling.definitions.sent import SentObjects, weak_if_possible
from amltk.scheduling.executors.process_pool._pickling.importable import home_of, is_importable
from amltk.scheduling.executors.process_pool._pickling.main_module import TravellingModule

if TYPE_CHECKING:
    from collections import deque

    from amltk.scheduling.executors.process_pool._pickling.definitions.definition import Definition
    from amltk.scheduling.executors.process_pool._pickling.definitions.pieces import Entry


class Definitions:
    """The definitions of a pool. Not thread-safe.

    Attributes:
        modules: The names of modules from which pickled objects have imported something.
        forgotten: Numbers that are no longer needed.
    """

    def __init__(self) -> None:
        self._sent = SentObjects()
        self._known: dict[int, tuple[Any, Definition]] = {}  # by the object's id, with what removes it in time
        self._watched: set[Global] = set()
        self.modules: set[str] = self._sent.modules
        self.forgotten: deque[int] = self._sent.forgotten

    def of(self, obj: Any) -> Definition:
        """The definition of a function or class: created on first use, and again when anything it uses has changed.

        The globals that its code uses, of modules that travel, are captured with their values at that moment.
        """
        key = id(obj)
        known = self._known.get(key)
        if known is not None and (not known[1].used or known[1].is_current()):
            return known[1]
        home = None if is_importable(obj) else home_of(obj)
        place = Global(*home) if home is not None and "." not in home[1] else None
        definition = self._define(obj, place)
        self._known[key] = (weak_if_possible(obj, lambda _: self._known.pop(key, None)), definition)
        return definition

    def of_global(self, module: str, name: str) -> Definition | None:
        """The definition of a global that a worker has asked for; None if there is no such global.

        A global that was asked for once is sent with every later submission, since it may be reassigned.
        """
        key = Global(module, name)
        owner = sys.modules.get(module)
        if owner is None:
            return None
        if name not in vars(owner) and not (isinstance(owner, TravellingModule) and hasattr(owner, name)):
            return None
        definition = self._define(key.value, key)
        if key not in self._watched:
            self._watched.add(key)
            self._known.clear()
        return definition

    def _define(self, obj: Any, place: Global | None) -> Definition:
        self.prune()
        first: list[Global] = []
        shared: dict[int, Entry] = {}
        while True:
            builder = DefinitionBuilder(self._sent, shared, first)
            try:
                is_new = builder.walk(obj, place, [key for key in self._watched if key.module in sys.modules])
            except NeededFirst as problem:
                first.append(problem.key)
                continue
            if is_new and not shared and (shared := builder.sent_earlier()):
                continue  # shared with something sent earlier: pickled again, to refer to that
            return builder.finish()

    def prune(self) -> None:
        """Release values that are no longer globals, see `SentObjects.prune`, and definitions that are not current."""
        self._sent.prune()
        for number in [number for number, known in list(self._known.items()) if not known[1].is_current()]:
            self._known.pop(number, None)

    def clear(self) -> None:
        """Release everything: no more definitions are created."""
        self._known.clear()
        self._sent.clear()
        self._watched.clear()
