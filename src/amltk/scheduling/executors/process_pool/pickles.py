"""How calls and their outcomes are pickled.

A worker is a fresh interpreter that does not run the user's program. What its `__main__`, a notebook, a closure or
another module that travels defines goes there by value, once a worker: it is *defined* there under a number, which
calls then name. Functions of `__main__` share the worker's `__main__` as their globals, so what they use is found there
under its name: an instance of a class of `__main__` comes back by that name, and is one of the very class that it was.

A later cell of a notebook may define again what a function uses. That is then told to the workers before the next call:
a worker takes what was set anew, and keeps what an initializer or a call has made of the others.
"""

from __future__ import annotations

import io
import pickle
import sys
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors.descriptors import refuse_connections
from amltk.scheduling.executors.exception_parts import Refers
from amltk.scheduling.executors.process_pool import here, lending
from amltk.scheduling.executors.process_pool.by_value import DEFINED, ByValue
from amltk.scheduling.executors.process_pool.importable import home_of
from amltk.scheduling.executors.process_pool.lending import Loan
from amltk.scheduling.executors.process_pool.protocol import MOST_BUFFERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from amltk.scheduling.executors.exception_parts import Refer
    from amltk.scheduling.executors.process_pool.definitions import Definition, Definitions
    from amltk.scheduling.executors.process_pool.lending import Ticket
    from amltk.scheduling.executors.process_pool.names import Names

    Parcel: TypeAlias = tuple[int, bytes, list[memoryview], list[Definition | Loan]]
    """A call as it travels: the number of the function (0 where it is in the pickle), its pickle, what that has out of
    band, and which definitions and descriptors it refers to."""

OUT_OF_BAND = 1 << 14
"""Bytes from which on a buffer travels by itself."""

_CONNECTIONS = "multiprocessing.connection"

_refuses_connections = False
"""Whether the plain `pickle` of this process, a worker, refuses the ends of pipes."""

_dump = pickle.Pickler.dump  # found once


def _keeper(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    """A callback for picklers that keeps large buffers out of band."""

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUT_OF_BAND or len(buffers) == MOST_BUFFERS:
            return True
        buffers.append(raw)
        return False

    return keep


class _Pieces(list[Any]):
    """A file of what is written into it, in memory; short pickles are one piece."""

    write = list.append


_NOTHING: list[Definition | Loan] = []
"""What is used between two calls."""


class CallPickler(ByValue):
    """Pickles calls, one after the other, for workers. Not for several threads at once."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._pieces = _Pieces()
        self._buffers: list[memoryview] = []
        self._uses: list[Definition | Loan] = _NOTHING
        super().__init__(self._pieces, _keeper(self._buffers), definitions.modules)

    def take_apart(self, obj: Any) -> Any:
        """Name by its number what the worker cannot import."""
        definition = self._definitions.of(obj)
        self._uses.append(definition)
        return here.definition, (definition.number,)

    def lend(self, descriptor: int) -> Ticket:
        """Lend a descriptor for as long as the call is pending."""
        loan = Loan(descriptor)
        self._uses.append(loan)
        return loan.ticket

    def parcel(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parcel:
        """Pickle a call. A plain function or class is only named, by its number.

        Raises:
            Exception: Whatever the methods of the user's objects raise, or a `pickle.PicklingError`.
        """
        pieces = self._pieces
        try:
            if isinstance(fn, DEFINED):
                definition = self._definitions.of(fn)
                number = definition.number
                uses: list[Definition | Loan] = [definition]
                self._uses = uses  # takes what is met in the pickle
                _dump(self, (args, kwargs))
            else:
                number = 0
                self._uses = uses = []
                _dump(self, (fn, args, kwargs))
            payload = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            return number, payload, self._buffers[:], uses
        except BaseException:
            self._uses.clear()  # the error keeps this frame, but what was lent for the call is given back
            raise
        finally:  # calls share nothing, and keep nothing
            self._uses = _NOTHING
            self.clear_memo()
            pieces.clear()
            self._buffers.clear()


class _ReturnPickler(ByValue):
    """Names what lies in the modules of the program, which the parent has under the same names."""

    def __init__(self, file: Any, buffers: list[memoryview] | None) -> None:
        super().__init__(file, None if buffers is None else _keeper(buffers), set())

    def lend(self, descriptor: int) -> Ticket:
        """Lend a descriptor until the program has taken it."""
        return lending.lend_once(descriptor)

    def take_apart(self, obj: Any) -> Any:
        """Let the names of `__main__` be names."""
        return NotImplemented if home_of(obj) is not None else super().take_apart(obj)

    def carried(self, home: str, names: Names) -> dict[str, Any]:
        """What only this worker has: a call has set it."""
        present = vars(sys.modules[home])
        return {
            name: present[name] for name in names.globals if name in present and not here.is_of_the_program(home, name)
        }


class Probing(ByValue):
    """Lends nothing, but looks as if it would; has functions carry what they use, since that is to be looked at."""

    def lend(self, descriptor: int) -> Ticket:
        """Look as if the descriptor were lent."""
        del descriptor
        return lending.Ticket("", b"")

    def carried(self, home: str, names: Names) -> dict[str, Any]:
        """What a function uses."""
        present = vars(sys.modules[home])
        return {name: present[name] for name in names.globals if name in present}


class _ProbingReturn(Probing, _ReturnPickler):
    """The same for results."""


def make_pickler(file: io.BytesIO) -> ByValue:
    """A pickler that lets the same pass as that of calls, to find what does not."""
    return Probing(file, None, set())


def make_return_pickler(file: io.BytesIO) -> ByValue:
    """A pickler that lets the same pass as that of results."""
    return _ProbingReturn(file, None)


def pickle_outcome(outcome: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle what a call has returned or raised, in a worker."""
    buffers: list[memoryview] = []

    global _refuses_connections  # noqa: PLW0603 - asked for each outcome, so it has to be quick
    if not _refuses_connections and _CONNECTIONS in sys.modules:
        refuse_connections()
        _refuses_connections = True
    try:
        return pickle.dumps(outcome, 5, buffer_callback=_keeper(buffers)), buffers
    except (pickle.PicklingError, AttributeError, TypeError):  # something local: by value
        buffers.clear()
        file = io.BytesIO()
        _ReturnPickler(file, buffers).dump(outcome)
        return file.getvalue(), buffers


class _PartPickler(Refers, _ReturnPickler):
    """Pickles what an exception is made of."""


def pickle_part(obj: Any, refer: Refer) -> bytes:
    """Pickle what an exception is made of, in a worker; `refer` says what is named by a number."""
    file = io.BytesIO()
    pickler = _PartPickler(file, None)
    pickler.refer = refer
    pickler.dump(obj)
    return file.getvalue()
