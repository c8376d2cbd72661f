"""Picklers of pieces."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors.process_pool._pickling import worker_state
from amltk.scheduling.executors.process_pool._pickling.by_value import DEFINED, ByValue
from amltk.scheduling.executors.process_pool._pickling.definitions.pieces import Global
from amltk.scheduling.executors.process_pool._pickling.descriptor_lending import Loan, Ticket
from amltk.scheduling.executors.process_pool._pickling.importable import home_of, travels
from amltk.scheduling.executors.process_pool._pickling.names import identifiers
from amltk.scheduling.executors.process_pool._pickling.reducers import REDUCERS, annotations_of, reduce_named

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator
    from types import FunctionType

    from amltk.scheduling.executors.process_pool._pickling.definitions.pieces import Entry
    from amltk.scheduling.executors.process_pool._pickling.definitions.sent import SentObjects
    from amltk.scheduling.executors.process_pool._pickling.names import Names


class NeededFirst(Exception):  # noqa: N818 - not an error, but a reason to start over
    """A class is about to be pickled whose creation calls code that is not sent yet.

    Args:
        key: The global with the code: a base with an `__init_subclass__`, or a metaclass.
    """

    def __init__(self, key: Global) -> None:
        super().__init__(key)
        self.key = key


class PiecePickler(ByValue):
    """Pickles the objects of a piece, and notes what each of them uses.

    Args:
        file: The file to write to.
        sent: What workers have.
        shared: Objects that workers have, by their ids; only a `ReferringPickler` refers to them.

    Attributes:
        needs: Objects of earlier pieces to which it refers, by their numbers.
        included: The globals that this piece contains so far.
        loans: Descriptors that it refers to.
    """

    def __init__(self, file: io.BytesIO, sent: SentObjects, shared: dict[int, Entry]) -> None:
        super().__init__(file, None, sent.modules)
        self.needs: dict[int, Entry] = {}
        self.included: set[Global] = set()
        self.loans: list[Loan] = []
        self._sent = sent
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
                if key not in self.included and self._sent.current(key) is None:
                    raise NeededFirst(key)

    def _refer(self, module: str, qualname: str) -> Any:
        """What to pickle for an object with that name; None if workers do not have it."""
        name, _, rest = qualname.partition(".")
        key = Global(module, name)
        self._entry.uses.setdefault(key, False)
        entry = self._sent.current(key)
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


class TrialPickler(PiecePickler):
    """Finds out whether something can be pickled."""

    def lend(self, descriptor: int) -> Ticket:
        """Return a placeholder; nothing is lent."""
        del descriptor
        return Ticket("", b"")

    def _see_to_hooks(self, cls: type) -> None:
        """Do nothing: the pickle is never loaded."""


class ReferringPickler(PiecePickler):
    """Refers to any object that was sent earlier, not only to functions and classes."""

    def persistent_id(self, obj: Any) -> int | None:
        """The number of an object that was sent earlier."""
        entry = self._shared.get(id(obj))
        if entry is None:
            return None
        self.needs[entry.number] = entry
        return entry.number


def _names_in_annotations(obj: Any) -> Iterator[str]:
    """Names in annotations that are strings or contain strings, such as `list["Node"]`."""
    for value in annotations_of(obj).values():
        if isinstance(value, str):
            yield from identifiers([value])
        elif type(value).__module__ in {"typing", "types"}:
            yield from identifiers([repr(value)])
