"""Pickles calls and outcomes for the workers of other libraries: cloudpickle, with some corrections."""

from __future__ import annotations

import io
import pickle
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from cloudpickle.cloudpickle import list_registry_pickle_by_value

from amltk.exceptions import WorkerLostError
from amltk.scheduling.executors._transfer.descriptors import RULES, know_connections, refuse
from amltk.scheduling.executors._transfer.exception_parts import Refers, dump_part
from amltk.scheduling.executors.process_pool._pickling.reducers import REDUCERS
from amltk.scheduling.executors.remote_result import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pickle import PickleBuffer
    from pickle import Pickler as CloudPickler  # cloudpickle's has no type hints

    from amltk.scheduling.executors._transfer.exception_parts import Refer
else:
    from cloudpickle import Pickler as CloudPickler

know_connections()

PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})
"""The types whose objects the standard library's pickler makes the same of, in less time."""


class _Pickler(CloudPickler):
    """Refuses objects that would arrive as something else."""

    def reducer_override(self, obj: Any) -> Any:
        """Send no descriptor numbers, and keep the file names and line numbers of code."""
        kind = type(obj)
        if kind is FunctionType and _is_found_by_name(obj):
            return NotImplemented
        if kind is CodeType:  # cloudpickle drops them from 3.1.3 on
            return REDUCERS[CodeType](obj)
        rule = RULES.get(kind)
        return super().reducer_override(obj) if rule is None else rule(obj, refuse)


def _is_found_by_name(fn: FunctionType) -> bool:
    """Whether cloudpickle would refer to a function by its name, as to most of them: it takes longer to find out."""
    module = fn.__module__
    is_there = module != "__main__" and getattr(sys.modules.get(module), fn.__qualname__, None) is fn
    return is_there and not list_registry_pickle_by_value()


class _CallPickler(_Pickler):
    """Puts numbers in place of references to results that stay on workers.

    Args:
        file: Receives the pickle.
        references: Receives the handles of the results.
    """

    def __init__(self, file: io.BytesIO, references: list[Any]) -> None:
        super().__init__(file, protocol=5)
        self._references = references

    def reducer_override(self, obj: Any) -> Any:
        """As in the base class."""
        if type(obj) is not Reference:
            return super().reducer_override(obj)
        self._references.append(obj.handle)
        return _resolve, (len(self._references) - 1,)


_values: ContextVar[Sequence[bytes | None]] = ContextVar("amltk_values", default=())


@contextmanager
def resolving(values: Sequence[bytes | None]) -> Iterator[None]:
    """In a worker: what is unpickled within this context has these results in place of references."""
    token = _values.set(values)
    try:
        yield
    finally:
        _values.reset(token)


def _resolve(number: int) -> Any:
    value = _values.get()[number]
    if value is None:
        raise WorkerLostError("a result that this call needs had stayed on its worker, and is lost with it")
    return pickle.loads(value)


class _PartPickler(Refers, _Pickler):
    """Pickles the parts of an exception."""


def make_pickler(file: io.BytesIO) -> CloudPickler:
    """A pickler for calls and outcomes."""
    return _Pickler(file, protocol=5)


def dump_call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], references: list[Any]) -> bytes:
    """Pickle a call; `references` receives the handles of results that stay on workers and are in it."""
    call = fn, args, kwargs
    if type(fn) is FunctionType and PLAIN.issuperset(map(type, (*args, *kwargs.values()))) and _is_found_by_name(fn):
        return pickle.dumps(call, protocol=5)
    return dumps(call, references)


def dumps(obj: Any, references: list[Any] | None = None) -> bytes:
    """Pickle an object as for a call or an outcome.

    Args:
        obj: The object.
        references: Receives the handles of results that stay on workers and are in it; None if none may be.
    """
    file = io.BytesIO()
    (make_pickler(file) if references is None else _CallPickler(file, references)).dump(obj)
    return file.getvalue()


class _MainByName(_Pickler):
    """Refers by name to what workers find in their `__main__`."""

    def reducer_override(self, obj: Any) -> Any:
        """As in the base class, except for what has a name there."""
        if isinstance(obj, type | FunctionType) and obj.__module__ == "__main__" and _is_named_in_main(obj):
            return NotImplemented
        return super().reducer_override(obj)


def _is_named_in_main(obj: Any) -> bool:
    return getattr(sys.modules["__main__"], obj.__qualname__, None) is obj


def dump_with_buffers(obj: Any, keep: Callable[[PickleBuffer], object], *, has_main: bool) -> bytes:
    """Pickle an object without its large buffers.

    Args:
        obj: The object.
        keep: Called with each buffer that is left out.
        has_main: Whether it is for processes that have the program's `__main__`.
    """
    file = io.BytesIO()
    kind: Any = _MainByName if has_main else _Pickler
    kind(file, protocol=5, buffer_callback=keep).dump(obj)
    return file.getvalue()


def pickle_part(obj: Any, refer: Refer) -> bytes:
    """Pickle a part of an exception; `refer` returns the numbers of objects sent separately."""
    return dump_part(lambda file: _PartPickler(file, protocol=5), obj, refer)
