"""How calls and their outcomes are pickled.

A worker is a fresh interpreter that does not run the user's program. What its `__main__`, a notebook or a closure
defines goes there by value, through cloudpickle, once a worker: it is *defined* there under a number, which calls then
name. Functions of `__main__` share the worker's `__main__` as their globals, so what they use is found there under its
name: an instance of a class of `__main__` comes back by that name, and is an instance of the very class that it was.
"""

from __future__ import annotations

import io
import itertools
import pickle
import sys
import weakref
from collections import deque
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudpickle import register_pickle_by_value

from amltk.scheduling.executors.process_pool import here

if TYPE_CHECKING:
    from collections.abc import Callable
    from pickle import Pickler as CloudPickler  # cloudpickle's has no types
else:
    from cloudpickle import Pickler as CloudPickler

OUT_OF_BAND = 1 << 14
"""Bytes from which on a buffer travels by itself."""


_WITH_SETTER = 6
"""The length of a reduced value that says how the state is set."""


class Parcel(NamedTuple):
    """A call as it travels: its pickle, what that has out of band, and which definitions it refers to."""

    definition: int
    """The number of the function; 0 where the function is in the pickle."""
    payload: bytes
    buffers: list[memoryview]
    uses: set[int]


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


def _have_main_travel() -> None:
    """Have the user's program travel by value also where this process did not start it, but `multiprocessing` did."""
    main = sys.modules.get(MAIN_OF_A_CHILD)
    if main is not None and main.__name__ == MAIN_OF_A_CHILD:  # elsewhere it is another name of `__main__`
        register_pickle_by_value(main)


def _keeper(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    """A callback for picklers that keeps large buffers out of band."""

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUT_OF_BAND:
            return True
        buffers.append(raw)
        return False

    return keep


class _Pickler(CloudPickler):
    """Pickles by value what could not be imported."""

    globals_ref: dict[int, Any]

    def __init__(self, file: io.BytesIO, buffers: list[memoryview] | None) -> None:
        super().__init__(file, protocol=5, buffer_callback=None if buffers is None else _keeper(buffers))
        _have_main_travel()
        # cloudpickle's table of what stands for the globals of functions that it pickles by value.
        self.globals_ref[id(sys.modules["__main__"].__dict__)] = _MainGlobals()

    def reducer_override(self, obj: Any) -> Any:
        """Let what a function uses of `__main__` be kept where a worker has it already, from its initializer say."""
        reduced: Any = super().reducer_override(obj)
        if isinstance(obj, FunctionType) and isinstance(reduced, tuple) and len(reduced) == _WITH_SETTER:
            return (*reduced[:-1], partial(here.set_function_state, reduced[-1]))
        return reduced


def by_value(obj: Any) -> bytes:
    """Pickle something that a worker needs only once, such as a definition."""
    file = io.BytesIO()
    _Pickler(file, None).dump(obj)
    return file.getvalue()


class Definitions:
    """The functions and classes that workers are told once. Forgotten when nobody else knows them any more."""

    def __init__(self) -> None:
        self._known: dict[
            int, tuple[weakref.ref[Any], int]
        ] = {}  # by id; the reference takes it out before that is free
        self._payloads: dict[int, bytes] = {}
        self._numbers = itertools.count(1)
        self.forgotten: deque[int] = deque()

    def number(self, obj: Any) -> int:
        """The number of a function or class, which is pickled when it is met first.

        What its code uses of the globals of `__main__` is taken as it is at that moment.
        """
        known = self._known.get(id(obj))
        if known is not None:
            return known[1]
        number = next(self._numbers)
        payload = by_value(obj)
        key = id(obj)

        def forget(_: weakref.ref[Any]) -> None:
            self._known.pop(key, None)
            self._payloads.pop(number, None)
            self.forgotten.append(number)

        self._payloads[number] = payload
        self._known[key] = (weakref.ref(obj, forget), number)
        return number

    def payload(self, number: int) -> bytes:
        """What a worker has to load."""
        return self._payloads[number]


class CallPickler(_Pickler):
    """Pickles calls, one after the other, for workers. Not for several threads at once."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._file = io.BytesIO()
        self._buffers: list[memoryview] = []
        self._uses: set[int] = set()
        super().__init__(self._file, self._buffers)

    def reducer_override(self, obj: Any) -> Any:
        """Name by its number what the worker cannot import."""
        if isinstance(obj, FunctionType | type):
            if is_importable(obj):
                return super().reducer_override(obj)
            number = self._definitions.number(obj)
            self._uses.add(number)
            return here.definition, (number,)
        return super().reducer_override(obj)

    def parcel(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parcel:
        """Pickle a call. A plain function or class is only named, by its number.

        Raises:
            Exception: Whatever the methods of the user's objects raise, or a `pickle.PicklingError`.
        """
        self._buffers.clear()
        self._uses.clear()
        self._file.seek(0)
        self._file.truncate()
        definition = self._definitions.number(fn) if isinstance(fn, FunctionType | type) else 0
        self.clear_memo()  # calls share no objects
        try:
            self.dump((args, kwargs) if definition else (fn, args, kwargs))
        finally:
            self.clear_memo()
        if definition:
            self._uses.add(definition)
        return Parcel(definition, self._file.getvalue(), list(self._buffers), set(self._uses))


class _ReturnPickler(_Pickler):
    """Names what lies in the `__main__` of this worker, which its parent has under the same name."""

    def reducer_override(self, obj: Any) -> Any:
        """Let the names of `__main__` be names."""
        if isinstance(obj, FunctionType | type) and obj.__module__ == "__main__":
            main = sys.modules["__main__"]
            if here.look_up(main, obj.__qualname__) is obj:
                return NotImplemented
        return super().reducer_override(obj)


def pickle_outcome(outcome: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle what a call has returned or raised, in a worker."""
    buffers: list[memoryview] = []

    try:
        return pickle.dumps(outcome, 5, buffer_callback=_keeper(buffers)), buffers
    except (pickle.PicklingError, AttributeError, TypeError):  # something local: by value
        buffers.clear()
        file = io.BytesIO()
        _ReturnPickler(file, buffers).dump(outcome)
        return file.getvalue(), buffers
