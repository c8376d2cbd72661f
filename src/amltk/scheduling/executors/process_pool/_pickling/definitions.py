"""What is sent to a worker only once: functions and classes, the values they use of modules that travel, and so on.

A *piece* is a set of objects that were not sent before and are pickled together, once. It gives each of them a number
and, if the object is a global, the name of it. Objects in one piece share what they share in the program. Later pieces
refer by number to objects of earlier ones. So a global that is reassigned costs one piece of its own, and nothing else
is sent again.

A *definition* is what calls refer to: an object, and everything that it needs at the time. A new one is created when
one of the globals used was reassigned, or exists for the first time.

Code uses a global if the global's name occurs in it as a name or, as a guess, within a string:
`df.query("x > @limit")`. Code that may look up any name, for instance with `globals()`, uses all globals that can be
pickled.
"""

from __future__ import annotations

import io
import itertools
import pickle
import sys
import weakref
from collections import deque
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk.scheduling.executors.process_pool._pickling import worker_state
from amltk.scheduling.executors.process_pool._pickling.by_value import DEFINED, ByValue
from amltk.scheduling.executors.process_pool._pickling.descriptor_lending import Loan, Ticket
from amltk.scheduling.executors.process_pool._pickling.importable import home_of, is_importable, travels
from amltk.scheduling.executors.process_pool._pickling.main_module import TravellingModule
from amltk.scheduling.executors.process_pool._pickling.names import identifiers
from amltk.scheduling.executors.process_pool._pickling.reducers import REDUCERS, annotations_of, reduce_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from amltk.scheduling.executors.process_pool._pickling.names import Names

MAX_GUESS_BYTES = 1 << 20
"""The maximum pickled size, in bytes, of a global that is sent only because a string contains its name."""

_ATOMS = (int, float, complex, bool, str, bytes, type(None), type(...), ModuleType)
"""Types whose values may be duplicated without any difference."""

_HIDDEN = frozenset({"In", "Out", "exit", "quit", "get_ipython"})
"""Globals of an interactive session that do not belong to the program, besides those that begin with an underscore."""

_MISSING = object()
"""Stands for the value of a name that a module does not have."""


class Global(NamedTuple):
    """A name of a module that travels."""

    module: str
    name: str

    @property
    def value(self) -> Any:
        """The current value; `_MISSING` if there is none."""
        return vars(sys.modules[self.module]).get(self.name, _MISSING)


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
            if present.get(name, _MISSING) is not value:
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


class Definitions:
    """The definitions of a pool. Not thread-safe.

    Attributes:
        modules: The names of modules from which pickled objects have imported something.
        forgotten: Numbers that are no longer needed.
    """

    def __init__(self) -> None:
        # By id; the weak reference removes the entry before the id can be reused.
        self._known: dict[int, tuple[Any, Definition]] = {}
        self._roots: dict[int, tuple[Any, Entry]] = {}  # of objects that are not globals
        self._globals: dict[Global, Entry] = {}
        self._versions: dict[Global, tuple[int, Any]] = {}
        self._left_out: dict[Global, tuple[Any, bool]] = {}  # values, and whether they are too large
        self._watched: set[Global] = set()
        self._numbers = itertools.count(1)
        self.modules: set[str] = set()
        self.forgotten: deque[int] = deque()

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
        self._known[key] = (_reference(obj, lambda _: self._known.pop(key, None)), definition)
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
            batch = _Batch(self, shared, first)
            try:
                is_new = batch.walk(obj, place)
            except _ToldTooLate as problem:
                first.append(problem.key)
                continue
            if is_new and not shared and (shared := self._shared_with(batch)):
                continue  # shared with something sent earlier: pickled again, to refer to that
            return batch.finish()

    def _shared_with(self, batch: _Batch) -> dict[int, Entry]:
        """Objects that were sent earlier and also occur in a batch, by their ids."""
        met = batch.pickler.memo.copy()
        if not met:
            return {}
        known = {
            id(entry.value): entry
            for entry in self._globals.values()
            if type(entry.value) not in _ATOMS and not isinstance(entry.value, DEFINED)  # these are referred to anyway
        }
        return {key: known[key] for key in known.keys() & met.keys()}

    def prune(self) -> None:
        """Release values that are no longer globals: after reassigning one, a program wants the old value freed."""
        for key in [key for key, entry in self._globals.items() if not _is_there(key, entry.value)]:
            del self._globals[key]
        for key, (version, value) in list(self._versions.items()):
            if not _is_there(key, value):
                self._versions[key] = version, _MISSING
        for key in [key for key, (value, _) in self._left_out.items() if not _is_there(key, value)]:
            del self._left_out[key]
        for number in [number for number, known in list(self._known.items()) if not known[1].is_current()]:
            self._known.pop(number, None)

    def clear(self) -> None:
        """Release everything: no more definitions are created."""
        for known in (self._known, self._roots, self._globals, self._versions, self._left_out, self._watched):
            known.clear()

    def current(self, key: Global) -> Entry | None:
        """The entry of a global, if its current value was sent to workers."""
        entry = self._globals.get(key)
        return entry if entry is not None and entry.value is key.value else None

    def root(self, obj: Any) -> Entry | None:
        """The entry of an object that is not a global."""
        known = self._roots.get(id(obj))
        return None if known is None else known[1]

    def entry(self, place: Global | None, value: Any) -> Entry:
        """Create an entry, for a piece."""
        return Entry(next(self._numbers), place, None if place is None else value, self.forgotten)

    def number(self) -> int:
        """An unused number."""
        return next(self._numbers)

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
                self._roots[key] = (_reference(value, lambda _, key=key: self._roots.pop(key, None)), entry)

    def watched(self) -> list[Global]:
        """Globals that were asked for, if their modules exist."""
        return [key for key in self._watched if key.module in sys.modules]

    def is_left_out(self, key: Global, value: Any, *, whatever_size: bool) -> bool:
        """Whether a global that is only a guess was found to be impossible to send, or too large."""
        known, is_large = self._left_out.get(key, (_MISSING, False))
        return known is value and not (is_large and whatever_size)

    def leave_out(self, key: Global, value: Any, *, is_large: bool) -> None:
        """Do not try to send it again."""
        self._left_out[key] = (value, is_large)


def _reference(obj: Any, callback: Any) -> Any:
    try:
        return weakref.ref(obj, callback)
    except TypeError:  # such as a type alias
        return obj


def _is_there(key: Global, value: Any) -> bool:
    return key.module in sys.modules and key.value is value


class _ToldTooLate(Exception):  # noqa: N818 - not an error, but a reason to start over
    """A class is about to be pickled whose creation calls code that is not sent yet.

    Args:
        key: The global with the code: a base with an `__init_subclass__`, or a metaclass.
    """

    def __init__(self, key: Global) -> None:
        super().__init__(key)
        self.key = key


class _Batch:
    """Finds what a definition needs, and pickles what workers do not have yet.

    Args:
        definitions: What workers have.
        shared: Objects that workers have, by their ids, to which the new ones must refer.
        first: Globals that must be sent before all others.
    """

    def __init__(self, definitions: Definitions, shared: dict[int, Entry], first: Iterable[Global]) -> None:
        self._definitions = definitions
        self._first = first
        self._file = io.BytesIO()
        self.pickler: PiecePickler = (_ReferringPickler if shared else PiecePickler)(self._file, definitions, shared)
        self._told: list[tuple[Entry, Any, int]] = []  # entry, value and size in bytes of what is new
        self._root: Entry
        self._entries: list[Entry] = []
        self._required: list[Entry] = []
        self._used: dict[Global, Any] = {}
        self._sizes: dict[str, int] = {}
        self._certain: list[Global] = []
        self._open: list[str] = []
        self._guesses: deque[tuple[Global, bool]] = deque()  # and whether they may be large

    def walk(self, obj: Any, place: Global | None) -> bool:
        """Find what an object needs; return whether any of it is new."""
        definitions = self._definitions
        for key in self._first:
            self.pickler.told.add(key)
            self._follow(key, is_certain=True, whatever_size=True)
            self._follow_certain()
        known = definitions.current(place) if place is not None else definitions.root(obj)
        self._root = known if known is not None else self._pickle(obj, place)
        if place is not None:
            self._used[place] = obj
        self._collect(self._root, is_certain=True, whatever_size=False)
        for key in definitions.watched():
            self._guesses.append((key, True))
        while self._certain or self._open or self._guesses:
            self._follow_certain()
            if self._open:
                self._guesses.extendleft((key, True) for key in self._all_of(self._open.pop()))
            elif self._guesses:
                key, whatever_size = self._guesses.popleft()
                self._follow(key, is_certain=False, whatever_size=whatever_size)
        return bool(self._told)

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
        if value is _MISSING:
            return
        entry = self._definitions.current(key)
        if entry is None:
            entry = self._pickle(value, key) if is_certain else self._try(value, key, whatever_size=whatever_size)
        if entry is not None:
            self._entries.append(entry)
            if is_certain:
                self._required.append(entry)
            self._collect(entry, is_certain=is_certain, whatever_size=whatever_size)

    def _pickle(self, value: Any, place: Global | None) -> Entry:
        entry = self._definitions.entry(place, value)
        at = self._file.tell()
        self.pickler.dump_for(entry, value)
        self._told.append((entry, value, self._file.tell() - at))
        if place is not None:
            self.pickler.told.add(place)
        return entry

    def _try(self, value: Any, key: Global, *, whatever_size: bool) -> Entry | None:
        """Pickle a guessed global, if that is possible and it is not too large for a guess."""
        definitions = self._definitions
        if definitions.is_left_out(key, value, whatever_size=whatever_size):
            return None
        file = io.BytesIO()
        try:
            _Trial(file, definitions, {}).dump_for(definitions.entry(key, value), value)
        except Exception:  # noqa: BLE001 - whatever it is, the value is not sent
            definitions.leave_out(key, value, is_large=False)
            return None
        if not whatever_size and file.tell() > MAX_GUESS_BYTES:
            definitions.leave_out(key, value, is_large=True)
            return None
        return self._pickle(value, key)

    def finish(self) -> Definition:
        """The definition, with a piece for what is new."""
        definitions = self._definitions
        if self._told:
            self._make_piece()
            definitions.keep((entry, value) for entry, value, _ in self._told)
        return Definition(
            definitions.number(),
            self._root,
            entries=self._entries,
            required=self._required,
            used=self._used,
            sizes=self._sizes,
            forgotten=definitions.forgotten,
        )

    def _make_piece(self) -> None:
        definitions = self._definitions
        header = []
        for entry, value, size in self._told:
            module, name = entry.place or ("", "")
            version = 0 if entry.place is None else definitions.version(entry.place, value)
            header.append((entry.number, size, module, name, version))
        payload = b"".join((pickle.dumps(header, 5), self._file.getbuffer()))
        numbers = [entry.number for entry, _, _ in self._told]
        piece = Piece(definitions.number(), payload, numbers, self.pickler.needs.values(), definitions.forgotten)
        piece.loans = self.pickler.loans
        for entry, _, _ in self._told:
            entry.piece = piece


class PiecePickler(ByValue):
    """Pickles the objects of a piece, and notes what each of them uses.

    Attributes:
        needs: Objects of earlier pieces to which it refers, by their numbers.
        told: The globals that this piece contains so far.
    """

    def __init__(self, file: io.BytesIO, definitions: Definitions, shared: dict[int, Entry]) -> None:
        super().__init__(file, None, definitions.modules)
        self.needs: dict[int, Entry] = {}
        self.told: set[Global] = set()
        self.loans: list[Loan] = []
        self._definitions = definitions
        self._shared = shared
        self._entry: Entry

    def lend(self, descriptor: int) -> Ticket:
        """Lend a descriptor for as long as the piece exists."""
        loan = Loan(descriptor)
        self.loans.append(loan)
        return loan.ticket

    def dump_for(self, entry: Entry, value: Any) -> None:
        """Pickle an object."""
        self._entry = entry
        self.dump(value)

    def reducer_override(self, obj: Any) -> Any:
        """Refer to what was sent earlier; take apart objects that pickle only by name."""
        reduced = super().reducer_override(obj)
        if reduced is not NotImplemented or isinstance(obj, DEFINED) or type(obj) in REDUCERS:
            return reduced
        reduced = obj.__reduce_ex__(5)
        if not isinstance(reduced, str):
            return reduced
        module = getattr(obj, "__module__", None)
        if not isinstance(module, str) or not travels(module):
            return NotImplemented
        return self._refer(module, reduced) or reduce_named(obj)

    def take_apart(self, obj: Any) -> Any:
        """Refer to what was sent earlier."""
        home = home_of(obj)
        reference = None if home is None else self._refer(*home)
        if reference is not None:
            return reference
        if isinstance(obj, type):
            self._see_to_hooks(obj)
        return super().take_apart(obj)

    def _see_to_hooks(self, cls: type) -> None:
        """Ensure that code which runs when a class is created is sent before the class."""
        hooks = [base for base in cls.__mro__[1:] if "__init_subclass__" in vars(base)]
        for owner in (*hooks, type(cls)):
            home = home_of(owner)
            if home is not None:
                key = Global(home[0], home[1].partition(".")[0])
                if key not in self.told and self._definitions.current(key) is None:
                    raise _ToldTooLate(key)

    def _refer(self, module: str, qualname: str) -> Any:
        """What to pickle for an object with that name; None if workers do not have it."""
        name, _, rest = qualname.partition(".")
        key = Global(module, name)
        self._entry.uses.setdefault(key, False)
        entry = self._definitions.current(key)
        if entry is None:
            return None
        self.needs[entry.number] = entry
        return (worker_state.attribute, (entry.value, rest)) if rest else (worker_state.definition, (entry.number,))

    def note_function(self, function: FunctionType, names: Names, home: str | None) -> None:
        """Note which globals of its module a function uses."""
        if home is None:
            return
        present, uses = function.__globals__, self._entry.uses
        uses.update((Global(home, name), True) for name in names.globals)
        texts = {*names.text, *_names_in_annotations(function)}
        for name in texts & present.keys():
            uses.setdefault(Global(home, name), False)
        if names.is_open:
            self._entry.open.add(home)

    def note_class(self, cls: type) -> None:
        """Note what the annotations of a class refer to."""
        module: Any = cls.__module__  # of some classes it is not a string
        if isinstance(module, str) and travels(module):
            for name in {*_names_in_annotations(cls)} & vars(sys.modules[module]).keys():
                self._entry.uses.setdefault(Global(module, name), False)


def _names_in_annotations(obj: Any) -> Iterator[str]:
    """Names in annotations that are strings or contain strings, such as `list["Node"]`."""
    for value in annotations_of(obj).values():
        if isinstance(value, str):
            yield from identifiers([value])
        elif type(value).__module__ in {"typing", "types"}:
            yield from identifiers([repr(value)])


class _Trial(PiecePickler):
    """Finds out whether something can be pickled."""

    def lend(self, descriptor: int) -> Ticket:
        """Return a placeholder; nothing is lent."""
        del descriptor
        return Ticket("", b"")

    def _see_to_hooks(self, cls: type) -> None:
        """Do nothing: the pickle is never loaded."""


class _ReferringPickler(PiecePickler):
    """Refers to any object that was sent earlier, not only to functions and classes."""

    def persistent_id(self, obj: Any) -> int | None:
        """The number of an object that was sent earlier."""
        entry = self._shared.get(id(obj))
        if entry is None:
            return None
        self.needs[entry.number] = entry
        return entry.number
