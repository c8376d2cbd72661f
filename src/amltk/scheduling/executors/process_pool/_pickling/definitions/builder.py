"""Builds definitions."""

from __future__ import annotations

import io
import pickle
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors.process_pool._pickling.definitions.definition import Definition
from amltk.scheduling.executors.process_pool._pickling.definitions.pickler import (
    PiecePickler,
    ReferringPickler,
    TrialPickler,
)
from amltk.scheduling.executors.process_pool._pickling.definitions.pieces import MISSING, Global, Piece

if TYPE_CHECKING:
    from collections.abc import Iterable

    from amltk.scheduling.executors.process_pool._pickling.definitions.pieces import Entry
    from amltk.scheduling.executors.process_pool._pickling.definitions.sent import SentObjects

MAX_GUESS_BYTES = 1 << 20
"""The maximum pickled size, in bytes, of a global that is sent only because a string contains its name."""

_HIDDEN = frozenset({"In", "Out", "exit", "quit", "get_ipython"})
"""Globals of an interactive session that do not belong to the program, besides those that begin with an underscore."""


class DefinitionBuilder:
    """Finds what a definition needs, and pickles what workers do not have yet. Makes one definition.

    Args:
        sent: What workers have.
        shared: Objects that workers have, by their ids, to which the new ones must refer.
        first: Globals that must be sent before all others.
    """

    def __init__(self, sent: SentObjects, shared: dict[int, Entry], first: Iterable[Global]) -> None:
        self._sent = sent
        self._first = first
        self._file = io.BytesIO()
        self._pickler = (ReferringPickler if shared else PiecePickler)(self._file, sent, shared)
        self._new: list[tuple[Entry, Any, int]] = []  # entry, value and size in bytes of what is new
        self._root: Entry
        self._entries: list[Entry] = []
        self._required: list[Entry] = []
        self._used: dict[Global, Any] = {}
        self._sizes: dict[str, int] = {}
        self._certain: list[Global] = []
        self._open: list[str] = []
        self._guesses: deque[tuple[Global, bool]] = deque()  # and whether they may be large

    def walk(self, obj: Any, place: Global | None, watched: Iterable[Global]) -> bool:
        """Find what an object needs, and pickle what is new.

        Args:
            obj: The object.
            place: The global that it is, or None.
            watched: Globals that workers have asked for, which every definition brings up to date.

        Returns:
            Whether anything is new.

        Raises:
            NeededFirst: A global must be sent before all others.
        """
        for key in self._first:
            self._pickler.included.add(key)
            self._follow(key, is_certain=True, whatever_size=True)
            self._follow_certain()
        known = self._sent.current(place) if place is not None else self._sent.other(obj)
        self._root = known if known is not None else self._pickle(obj, place)
        if place is not None:
            self._used[place] = obj
        self._collect(self._root, is_certain=True, whatever_size=False)
        self._guesses.extend((key, True) for key in watched)
        while self._certain or self._open or self._guesses:
            self._follow_certain()
            if self._open:
                self._guesses.extendleft((key, True) for key in self._all_of(self._open.pop()))
            elif self._guesses:
                key, whatever_size = self._guesses.popleft()
                self._follow(key, is_certain=False, whatever_size=whatever_size)
        return bool(self._new)

    def _follow_certain(self) -> None:
        while self._certain:
            self._follow(self._certain.pop(), is_certain=True, whatever_size=True)

    def _collect(self, entry: Entry, *, is_certain: bool, whatever_size: bool) -> None:
        """Note what an object uses. Guesses come last, since something else may need the same globals for certain."""
        self._open += [module for module in entry.open if module not in self._sizes]
        for key, is_use_certain in entry.uses.items():
            if is_certain and is_use_certain:
                self._certain.append(key)
            else:
                self._guesses.append((key, whatever_size))

    def _all_of(self, module: str) -> list[Global]:
        """All globals of a module, except those that its interpreter or IPython has added."""
        present = vars(sys.modules[module])
        self._sizes[module] = len(present)
        return [Global(module, name) for name in list(present) if not name.startswith("_") and name not in _HIDDEN]

    def _follow(self, key: Global, *, is_certain: bool, whatever_size: bool) -> None:
        if key in self._used:
            return
        value = self._used[key] = key.value
        if value is MISSING:
            return
        entry = self._sent.current(key)
        if entry is None:
            entry = self._pickle(value, key) if is_certain else self._try(value, key, whatever_size=whatever_size)
        if entry is not None:
            self._entries.append(entry)
            if is_certain:
                self._required.append(entry)
            self._collect(entry, is_certain=is_certain, whatever_size=whatever_size)

    def _pickle(self, value: Any, place: Global | None) -> Entry:
        entry = self._sent.new_entry(place, value)
        at = self._file.tell()
        self._pickler.dump_for(entry, value)
        self._new.append((entry, value, self._file.tell() - at))
        if place is not None:
            self._pickler.included.add(place)
        return entry

    def _try(self, value: Any, key: Global, *, whatever_size: bool) -> Entry | None:
        """Pickle a guessed global, if that is possible and it is not too large for a guess."""
        if self._sent.is_left_out(key, value, whatever_size=whatever_size):
            return None
        file = io.BytesIO()
        try:
            TrialPickler(file, self._sent, {}).dump_for(self._sent.new_entry(key, value), value)
        except Exception:  # noqa: BLE001 - whatever it is, the value is not sent
            self._sent.leave_out(key, value, is_large=False)
            return None
        if not whatever_size and file.tell() > MAX_GUESS_BYTES:
            self._sent.leave_out(key, value, is_large=True)
            return None
        return self._pickle(value, key)

    def sent_earlier(self) -> dict[int, Entry]:
        """Objects that what is new contains, although they were sent earlier, by their ids."""
        memo = self._pickler.memo.copy()
        return self._sent.among(memo.keys()) if memo else {}

    def finish(self) -> Definition:
        """The definition, with a piece for what is new."""
        if self._new:
            self._make_piece()
            self._sent.keep((entry, value) for entry, value, _ in self._new)
        return Definition(
            self._sent.new_number(),
            self._root,
            entries=self._entries,
            required=self._required,
            used=self._used,
            sizes=self._sizes,
            forgotten=self._sent.forgotten,
        )

    def _make_piece(self) -> None:
        header = []
        for entry, value, size in self._new:
            module, name = entry.place or ("", "")
            version = 0 if entry.place is None else self._sent.version(entry.place, value)
            header.append((entry.number, size, module, name, version))
        payload = b"".join((pickle.dumps(header, 5), self._file.getbuffer()))
        numbers = [entry.number for entry, _, _ in self._new]
        needs = self._pickler.needs.values()
        piece = Piece(self._sent.new_number(), payload, numbers, needs, self._sent.forgotten)
        piece.loans = self._pickler.loans
        for entry, _, _ in self._new:
            entry.piece = piece
