"""Pickling of calls and their outcomes.

A worker is a fresh interpreter that does not run the user's program. Definitions of the program's `__main__`, of a
notebook, a closure or another travelling module are sent by value, once per worker: each is *defined* there under a
number, which calls then use. Functions of `__main__` share the worker's `__main__` as their globals, so what they use
is looked up there by name. An instance of a class of `__main__` comes back by that name, as an instance of the original
class.

A later cell of a notebook may redefine what a function uses. The new definition is sent to the workers before the next
call: a worker takes the new values, and keeps changes that an initializer or a call has made to the others.
"""

from __future__ import annotations

import io
import pickle
import sys
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors._transfer.descriptors import refuse_connections
from amltk.scheduling.executors._transfer.exception_parts import Refers, dump_part
from amltk.scheduling.executors.process_pool._pickling import descriptor_lending, worker_state
from amltk.scheduling.executors.process_pool._pickling.by_value import DEFINED, ByValue
from amltk.scheduling.executors.process_pool._pickling.descriptor_lending import Loan
from amltk.scheduling.executors.process_pool._pickling.importable import home_of
from amltk.scheduling.executors.process_pool._state.protocol import MAX_BUFFERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from amltk.scheduling.executors._transfer.exception_parts import Refer
    from amltk.scheduling.executors.process_pool._pickling.definitions import Definition, Definitions
    from amltk.scheduling.executors.process_pool._pickling.descriptor_lending import Ticket
    from amltk.scheduling.executors.process_pool._pickling.names import Names
    from amltk.scheduling.executors.process_pool._state.protocol import InSegment

    CallPayload: TypeAlias = tuple[int, bytes, Sequence[memoryview] | InSegment, list[Definition | Loan]]
    """A pickled call: the number of the function (0 if it is in the pickle), the pickle, its out-of-band buffers, and
    the definitions and descriptors that it refers to."""

OUT_OF_BAND_BYTES = 1 << 14
"""The size in bytes from which on a buffer is sent out of band."""

_CONNECTIONS = "multiprocessing.connection"

_refuses_connections = False
"""Whether the plain `pickle` of this process, a worker, refuses the ends of pipes."""

_dump = pickle.Pickler.dump  # looked up once


def _keeper(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    """A pickler's callback that keeps large buffers out of band."""

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUT_OF_BAND_BYTES or len(buffers) == MAX_BUFFERS:
            return True
        buffers.append(raw)
        return False

    return keep


class _Pieces(list[Any]):
    """An in-memory file that keeps the written pieces; short pickles are one piece."""

    write = list.append


_NOTHING: list[Definition | Loan] = []
"""The value between two calls."""


class CallPickler(ByValue):
    """Pickles calls for workers, one at a time. Not thread-safe."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._pieces = _Pieces()
        self._buffers: list[memoryview] = []
        self._uses: list[Definition | Loan] = _NOTHING
        super().__init__(self._pieces, _keeper(self._buffers), definitions.modules)

    def take_apart(self, obj: Any) -> Any:
        """Refer by number to objects that the worker cannot import."""
        definition = self._definitions.of(obj)
        self._uses.append(definition)
        return worker_state.definition, (definition.number,)

    def lend(self, descriptor: int) -> Ticket:
        """Lend a descriptor while the call is pending."""
        loan = Loan(descriptor)
        self._uses.append(loan)
        return loan.ticket

    def definition(self, fn: Any) -> Definition | None:
        """The current definition of a function that calls refer to by number; None if it is pickled with each call.

        Raises:
            Exception: As `payload`.
        """
        return self._definitions.of(fn) if isinstance(fn, DEFINED) else None

    def payload(
        self, fn: Any, definition: Definition | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[int, bytes, list[memoryview], list[Definition | Loan]]:
        """Pickle a call of a function with its current definition.

        Raises:
            Exception: Whatever the methods of the user's objects raise, or a `pickle.PicklingError`.
        """
        pieces = self._pieces
        try:
            if definition is not None:
                number = definition.number
                uses: list[Definition | Loan] = [definition]
                self._uses = uses  # collects what the pickle refers to
                _dump(self, (args, kwargs))
            else:
                number = 0
                self._uses = uses = []
                _dump(self, (fn, args, kwargs))
            payload = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            return number, payload, self._buffers[:], uses
        except BaseException:
            self._uses.clear()  # the error keeps this frame alive, but loans of the call are released
            raise
        finally:  # calls share no state, and keep none
            self._uses = _NOTHING
            self.clear_memo()
            pieces.clear()
            self._buffers.clear()


class _ReturnPickler(ByValue):
    """Refers by name to objects in the program's modules, which the parent has under the same names."""

    def __init__(self, file: Any, buffers: list[memoryview] | None) -> None:
        super().__init__(file, None if buffers is None else _keeper(buffers), set())

    def lend(self, descriptor: int) -> Ticket:
        """Lend a descriptor until the program has taken it."""
        return descriptor_lending.lend_once(descriptor)

    def take_apart(self, obj: Any) -> Any:
        """Keep the names of `__main__` as names."""
        return NotImplemented if home_of(obj) is not None else super().take_apart(obj)

    def carried(self, home: str, names: Names) -> dict[str, Any]:
        """The globals that only this worker has, since a call has set them."""
        present = vars(sys.modules[home])
        return {
            name: present[name]
            for name in names.globals
            if name in present and not worker_state.is_of_the_program(home, name)
        }


class Probing(ByValue):
    """Lends nothing, but pretends to; pickles what functions use with them, since that is to be examined."""

    def lend(self, descriptor: int) -> Ticket:
        """Pretend to lend the descriptor."""
        del descriptor
        return descriptor_lending.Ticket("", b"")

    def carried(self, home: str, names: Names) -> dict[str, Any]:
        """The globals that a function uses."""
        present = vars(sys.modules[home])
        return {name: present[name] for name in names.globals if name in present}


class _ProbingReturn(Probing, _ReturnPickler):
    """The same for results."""


def make_pickler(file: io.BytesIO) -> ByValue:
    """A pickler that accepts the same as that of calls, to find what it refuses."""
    return Probing(file, None, set())


def make_return_pickler(file: io.BytesIO) -> ByValue:
    """A pickler that accepts the same as that of results."""
    return _ProbingReturn(file, None)


def pickle_outcome(outcome: Any) -> tuple[bytes, list[memoryview], bool]:
    """Pickle the result of a call, in a worker.

    Returns:
        The pickle, its out-of-band buffers, and whether only the program's process can load it, and only now.
    """
    buffers: list[memoryview] = []

    global _refuses_connections  # noqa: PLW0603 - checked for each outcome, so it must be fast
    if not _refuses_connections and _CONNECTIONS in sys.modules:
        refuse_connections()
        _refuses_connections = True
    try:
        return pickle.dumps(outcome, 5, buffer_callback=_keeper(buffers)), buffers, False
    except (pickle.PicklingError, AttributeError, TypeError):  # contains something local: by value
        buffers.clear()
        file = io.BytesIO()
        _ReturnPickler(file, buffers).dump(outcome)
        return file.getvalue(), buffers, True


class _PartPickler(Refers, _ReturnPickler):
    """Pickles the parts of an exception."""


def pickle_part(obj: Any, refer: Refer) -> bytes:
    """Pickle a part of an exception, in a worker; `refer` returns the numbers of objects sent separately."""
    return dump_part(lambda file: _PartPickler(file, None), obj, refer)
