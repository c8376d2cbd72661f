"""How calls and their outcomes are pickled.

A worker is a fresh interpreter that does not run the user's program. What its `__main__`, a notebook or a closure
defines goes there by value, through cloudpickle, once a worker: it is *defined* there under a number, which calls then
name. Functions of `__main__` share the worker's `__main__` as their globals, so what they use is found there under its
name: an instance of a class of `__main__` comes back by that name, and is an instance of the very class that it was.

A later cell of a notebook may define again what a function uses. The function is then defined anew as well, and tells
which of its globals have changed since they were sent: a worker takes these, and keeps what an initializer or a call
has made of the others. What was not there yet when it was pickled counts as changed once it is.
"""

from __future__ import annotations

import io
import itertools
import pickle
import sys
import weakref
from collections import deque
from functools import partial
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from cloudpickle import register_pickle_by_value

from amltk.scheduling.executors.descriptors import RULES, Ticket, refuse, refuse_connections
from amltk.scheduling.executors.exception_parts import Refers
from amltk.scheduling.executors.process_pool import here, lending
from amltk.scheduling.executors.process_pool.lending import Loan
from amltk.scheduling.executors.process_pool.protocol import MOST_BUFFERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pickle import Pickler as CloudPickler  # cloudpickle's has no types
    from typing import TypeAlias

    from amltk.scheduling.executors.exception_parts import Refer

    Parcel: TypeAlias = tuple[int, bytes, list[memoryview], list["Definition | Loan"]]
    """A call as it travels: the number of the function (0 where it is in the pickle), its pickle, what that has out of
    band, and which definitions and descriptors it refers to."""
else:
    from cloudpickle import Pickler as CloudPickler

OUT_OF_BAND = 1 << 14
"""Bytes from which on a buffer travels by itself."""


_DEFINED = (FunctionType, type)
"""What workers are told once."""

_WITH_SETTER = 6
"""The length of a reduced value that says how the state is set."""

_dump = pickle.Pickler.dump  # cloudpickle's own would only name a RecursionError differently

_MISSING = object()
"""Stands for the value of a name that `__main__` does not have."""


_CONNECTIONS = "multiprocessing.connection"

MAIN_OF_A_CHILD = "__mp_main__"
"""What `multiprocessing` calls the user's program in a process that it has started; pools may be made there, too."""


class _MainGlobals:
    """Stands for the globals of `__main__`: a worker takes its own for it."""

    def __reduce__(self) -> tuple[Callable[[], dict[str, Any]], tuple[()]]:
        return here.main_globals, ()


def is_importable(obj: Any) -> bool:
    """Whether a fresh interpreter would find this function or class under its name."""
    name = getattr(obj, "__module__", None)
    module = sys.modules.get(name) if isinstance(name, str) else None
    is_main = name in {"__main__", MAIN_OF_A_CHILD}
    return not is_main and module is not None and here.look_up(module, obj.__qualname__) is obj


def _names(code: CodeType) -> Iterator[str]:
    """The names of globals that code may use, those of attributes among them."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _have_main_travel() -> None:
    """Have the user's program travel by value also where this process did not start it, but `multiprocessing` did."""
    main = sys.modules.get(MAIN_OF_A_CHILD)
    if main is not None and main.__name__ == MAIN_OF_A_CHILD:  # elsewhere it is another name of `__main__`
        register_pickle_by_value(main)


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


class _Pickler(CloudPickler):
    """Pickles by value what could not be imported, and lends what has a descriptor."""

    globals_ref: dict[int, Any]

    def __init__(self, file: Any, buffers: list[memoryview] | None) -> None:
        super().__init__(file, protocol=5, buffer_callback=None if buffers is None else _keeper(buffers))
        _have_main_travel()
        # cloudpickle's table of what stands for the globals of functions that it pickles by value.
        self.globals_ref[id(sys.modules["__main__"].__dict__)] = _MainGlobals()

    def reducer_override(self, obj: Any) -> Any:
        """Let what a function uses of `__main__` be kept where a worker has it already, from its initializer say."""
        rule = RULES.get(type(obj))
        if rule is not None:
            return rule(obj, self._lend)
        reduced: Any = super().reducer_override(obj)
        if isinstance(obj, FunctionType) and isinstance(reduced, tuple) and len(reduced) == _WITH_SETTER:
            versions = {}
            if obj.__globals__ is sys.modules["__main__"].__dict__:
                _, slots = reduced[2]
                versions = {name: self._version(name, value) for name, value in slots["__globals__"].items()}
                self._note_names(obj)
            return (*reduced[:-1], partial(here.set_function_state, reduced[-1], versions))
        return reduced

    def _version(self, _name: str, _value: Any) -> int:
        """How often a global of `__main__` was set anew, as far as workers have to know."""
        return 1

    def _note_names(self, function: FunctionType) -> None:
        """Told of each function that uses the globals of `__main__`."""

    def _lend(self, descriptor: int) -> Ticket:
        """Lend a descriptor for as long as the pickle is needed."""
        return refuse(descriptor)


class _ProbingPickler(_Pickler):
    """Lends nothing, but looks as if it would."""

    def _lend(self, _descriptor: int) -> Ticket:
        return lending.Ticket("", b"")


def make_pickler(file: io.BytesIO) -> CloudPickler:
    """A pickler that lets the same pass as that of calls, to find what does not."""
    return _ProbingPickler(file, None)


def by_value(obj: Any) -> bytes:
    """Pickle something that a worker needs only once, such as its initializer."""
    file = io.BytesIO()
    _Pickler(file, None).dump(obj)
    return file.getvalue()


class Definition:
    """A function or class as it was when it was pickled.

    Args:
        number: What calls name it by.
        payload: What a worker has to load.
        used: What its code uses of `__main__`, and what the code of that uses; `_MISSING` for what is not there.
        forgotten: Takes the number when neither a call nor `Definitions` needs it any more.
    """

    def __init__(self, number: int, payload: bytes, used: dict[str, Any], forgotten: deque[int]) -> None:
        self.number: int = number
        self.payload: bytes = payload
        self.used: tuple[tuple[str, Any], ...] = tuple(used.items())
        self.loans: list[Loan] = []  # as long as it may be loaded
        self._forgotten = forgotten

    def is_current(self) -> bool:
        """Whether `__main__` has still the same under these names."""
        present = sys.modules["__main__"].__dict__
        return all(present.get(name, _MISSING) is value for name, value in self.used)

    def __del__(self) -> None:
        self._forgotten.append(self.number)


class Definitions:
    """The functions and classes that workers are told once. Forgotten when nobody else knows them any more."""

    def __init__(self) -> None:
        # By id; the reference takes it out before that is free.
        self._known: dict[int, tuple[weakref.ref[Any], Definition]] = {}
        self._versions: dict[str, tuple[int, Any]] = {}
        self._numbers = itertools.count(1)
        self.forgotten: deque[int] = deque()

    def of(self, obj: Any) -> Definition:
        """The definition of a function or class: pickled when it is met first, and when what it uses has changed.

        What its code uses of the globals of `__main__` is taken as it is at that moment.
        """
        key = id(obj)
        known = self._known.get(key)
        if known is not None and (not known[1].used or known[1].is_current()):
            return known[1]
        file = io.BytesIO()
        pickler = _DefinitionPickler(file, self)
        pickler.dump((obj, self._version_of(obj)))
        definition = Definition(next(self._numbers), file.getvalue(), pickler.used, self.forgotten)
        definition.loans = pickler.loans
        self._known[key] = (weakref.ref(obj, lambda _: self._known.pop(key, None)), definition)
        return definition

    def version(self, name: str, value: Any) -> int:
        """How often this global of `__main__` was set anew; 1 for one that is met first."""
        version, known = self._versions.get(name, (0, None))
        if not version or known is not value:
            version += 1
            self._versions[name] = (version, value)
        return version

    def _version_of(self, obj: Any) -> int:
        """The version of the global of `__main__` that this is; 0 if it is none, such as one that was replaced."""
        name = obj.__qualname__
        is_global = obj.__module__ == "__main__" and sys.modules["__main__"].__dict__.get(name) is obj
        return self.version(name, obj) if is_global else 0


class _DefinitionPickler(_Pickler):
    """Pickles a definition, and notes what it uses of `__main__`."""

    def __init__(self, file: io.BytesIO, definitions: Definitions) -> None:
        super().__init__(file, None)
        self.used: dict[str, Any] = {}
        self.loans: list[Loan] = []
        self._definitions = definitions

    def _version(self, name: str, value: Any) -> int:
        self.used[name] = value
        return self._definitions.version(name, value)

    def _note_names(self, function: FunctionType) -> None:
        present = function.__globals__
        self.used.update((name, _MISSING) for name in _names(function.__code__) if name not in present)

    def _lend(self, descriptor: int) -> Ticket:
        loan = Loan(descriptor)
        self.loans.append(loan)
        return loan.ticket


_NOTHING: list[Definition | Loan] = []


class CallPickler(_Pickler):
    """Pickles calls, one after the other, for workers. Not for several threads at once."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._pieces = _Pieces()
        self._buffers: list[memoryview] = []
        self._uses = _NOTHING
        super().__init__(self._pieces, self._buffers)

    def reducer_override(self, obj: Any) -> Any:
        """Name by its number what the worker cannot import."""
        if isinstance(obj, _DEFINED):
            if is_importable(obj):
                return super().reducer_override(obj)
            definition = self._definitions.of(obj)
            self._uses.append(definition)
            return here.definition, (definition.number,)
        return super().reducer_override(obj)

    def _lend(self, descriptor: int) -> Ticket:
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
            if isinstance(fn, _DEFINED):
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


class _ReturnPickler(_Pickler):
    """Names what lies in the `__main__` of this worker, which its parent has under the same name."""

    def _lend(self, descriptor: int) -> Ticket:
        return lending.lend_once(descriptor)

    def reducer_override(self, obj: Any) -> Any:
        """Let the names of `__main__` be names."""
        if isinstance(obj, FunctionType | type) and obj.__module__ == "__main__":
            main = sys.modules["__main__"]
            if here.look_up(main, obj.__qualname__) is obj:
                return NotImplemented
        return super().reducer_override(obj)


class _ProbingReturnPickler(_ProbingPickler, _ReturnPickler):
    """The same for results."""


def make_return_pickler(file: io.BytesIO) -> CloudPickler:
    """A pickler that lets the same pass as that of results."""
    return _ProbingReturnPickler(file, None)


def pickle_outcome(outcome: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle what a call has returned or raised, in a worker."""
    buffers: list[memoryview] = []

    if _CONNECTIONS in sys.modules:
        refuse_connections()
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
