"""Pickles single objects by value: functions, their code, classes, and objects that pickle would refer to by name."""

from __future__ import annotations

import copyreg
import functools
import inspect
import linecache
import os
import sys
import typing
import weakref
from collections import ChainMap
from importlib import import_module
from types import CellType, CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from amltk import _compat
from amltk.scheduling.executors.process_pool._pickling import worker_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping

    Reduced = tuple[Any, ...]

_HAS_LAZY_ANNOTATIONS = sys.version_info >= (3, 14)

CACHES = (type(functools.lru_cache(lambda: None)),)
"""The types of functions decorated with `functools.lru_cache`."""

_ALIAS: Any = getattr(typing, "TypeAliasType", None)
"""The type of aliases that the `type` statement defines, from CPython 3.12 on."""

ALIASES: tuple[Any, ...] = (typing.NewType, typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple)
"""Types that the standard library pickles by name, like functions and classes, since they are usually globals."""

BY_NAME: tuple[Any, ...] = (*CACHES, *ALIASES, *([_ALIAS] if _ALIAS is not None else []))

_dispatcher: Any = functools.singledispatch(lambda _: None)
_DISPATCH = _dispatcher.__code__
_OWN = frozenset(_dispatcher.__dict__) - {"__wrapped__"}
"""The attributes that every dispatcher has itself."""


# ------------------------------------------------------------------------------------------------------------ code


def _reduce_code(code: CodeType) -> Reduced:
    return CodeType, (
        code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_nlocals, code.co_stacksize,
        code.co_flags, code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_filename, code.co_name,
        code.co_qualname, code.co_firstlineno, code.co_linetable, code.co_exceptiontable, code.co_freevars,
        code.co_cellvars,
    )  # fmt: skip


def source_of(code: CodeType) -> tuple[str, list[str]] | None:
    """The name and lines of the source of code without a file that a worker can read; None if they are unknown.

    Examples are notebook cells, input of an interactive interpreter, `python -c`, and doctests.
    """
    filename = code.co_filename
    if os.path.isfile(filename):
        return None
    lines = linecache.getlines(filename) or _compat.interactive_source(code)
    return (filename, list(lines)) if lines else None


# ------------------------------------------------------------------------------------------------------- functions


def make_function(code: CodeType, globals_: dict[str, Any], cells: int | None) -> FunctionType:
    """A function with only its code, to be completed later."""
    globals_.setdefault("__builtins__", __builtins__)
    closure = None if cells is None else tuple(CellType() for _ in range(cells))
    return FunctionType(code, globals_, None, None, closure)


def reduce_function(
    function: FunctionType,
    globals_: Any,
    used: dict[str, Any],
    submodules: Iterable[str],
    source: tuple[str, list[str]] | None,
) -> Reduced:
    """Take a function apart.

    Args:
        function: The function.
        globals_: What to pickle for its globals.
        used: The globals to pickle with it.
        submodules: The submodules to import in the worker.
        source: The result of `source_of`.
    """
    closure = function.__closure__
    state = {
        "submodules": tuple(submodules),
        "source": source,
        "globals": used,
        "closure": [_contents(cell) for cell in closure or ()],
        "attributes": function.__dict__,
        "__name__": function.__name__,
        "__qualname__": function.__qualname__,
        "__module__": function.__module__,
        "__doc__": function.__doc__,
        "__defaults__": function.__defaults__,
        "__kwdefaults__": function.__kwdefaults__,
        "__annotations__": annotations_of(function),
    }
    if parameters := getattr(function, "__type_params__", ()):  # from 3.12 on
        state["__type_params__"] = parameters
    made = (function.__code__, globals_, None if closure is None else len(closure))
    return make_function, made, state, None, None, worker_state.set_function


def _contents(cell: CellType) -> tuple[Any, ...]:
    """The contents of a cell; nothing if it is empty."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def annotations_of(obj: Any) -> dict[str, Any]:
    """The annotations of a function or class; from CPython 3.14 on as text if they refer to undefined names."""
    if not _HAS_LAZY_ANNOTATIONS:
        return inspect.get_annotations(obj)
    try:
        return dict(obj.__annotations__)
    except Exception:  # noqa: BLE001 - annotations are the user's code
        annotationlib: Any = import_module("annotationlib")
        texts: dict[str, Any] = annotationlib.get_annotations(obj, format=annotationlib.Format.STRING)
        return texts


def is_dispatcher(function: FunctionType) -> bool:
    """Whether this function was created by `functools.singledispatch`."""
    return function.__code__ is _DISPATCH


def reduce_dispatcher(function: Any) -> Reduced:
    """Take apart a function created by `functools.singledispatch`, whose caches refer to classes weakly."""
    registry = dict(function.registry)
    base = registry.pop(object)
    state = {key: value for key, value in function.__dict__.items() if key not in _OWN}
    names = (function.__name__, function.__qualname__, function.__module__, function.__doc__)
    return functools.singledispatch, (base,), (registry, state, names), None, None, set_dispatcher


def set_dispatcher(function: Any, state: Any) -> None:
    """Register the implementations again."""
    registry, attributes, names = state
    for kind, implementation in registry.items():
        function.register(kind, implementation)
    function.__dict__.update(attributes)
    function.__name__, function.__qualname__, function.__module__, function.__doc__ = names


# --------------------------------------------------------------------------------------------------------- classes


def reduce_class(cls: type) -> Reduced:
    """Take a class apart; nameless types of the interpreter, such as that of None, are looked up again."""
    if cls.__module__ == "builtins":
        reduced = _compat.reduce_nameless_class(cls)
        if reduced is not None:
            return reduced
    make, made, (attributes, slots), setter, is_plain = _compat.reduce_class_by_value(cls)
    if is_plain:  # the reducer of enums already takes the qualified name
        kind, name, bases, namespace, *rest = made
        made = (kind, name, bases, {**namespace, "__qualname__": cls.__qualname__}, *rest)
    if _HAS_LAZY_ANNOTATIONS:
        for key in ("__annotate__", "__annotations_cache__", "__classdict__"):
            attributes.pop(key, None)
        if annotations := annotations_of(cls):
            attributes["__annotations__"] = annotations
    return make, made, (attributes, slots), None, None, setter


# ------------------------------------------------------------------------------------------------- objects with a name


def reduce_named(obj: Any) -> Reduced:
    """Take apart an object that pickle would only refer to by name.

    An object whose `__reduce__` returns a name, and so claims to be a global, is an instance with a state.
    """
    kind = type(obj)
    if kind in CACHES:
        return _make_cached, (obj.__wrapped__, obj.cache_parameters()), _state_of_cached(obj), None, None, _update
    if kind is typing.NewType:
        return typing.NewType, (obj.__name__, obj.__supertype__), {"__module__": obj.__module__, **vars(obj)}
    if kind is _ALIAS:
        return _make_alias, (obj.__name__, obj.__value__, obj.__type_params__, obj.__module__)
    if kind in ALIASES:
        return _make_parameter, (kind, obj.__name__, *_arguments_of_parameter(obj), obj.__module__)
    make: Any = vars(copyreg)["__newobj__"]
    return make, (kind,), object.__getstate__(obj)


def _make_cached(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _state_of_cached(obj: Any) -> dict[str, Any]:
    return {key: value for key, value in obj.__dict__.items() if key not in {"__wrapped__", "cache_parameters"}} | {
        name: getattr(obj, name) for name in ("__name__", "__qualname__", "__module__", "__doc__")
    }


def _update(obj: Any, state: dict[str, Any]) -> None:
    for name, value in state.items():
        setattr(obj, name, value)


def _make_alias(name: str, value: Any, parameters: tuple[Any, ...], module: str) -> Any:
    """Create an alias in its original module, since its `__module__` cannot be set."""
    make: Callable[..., Any] = FunctionType(_call_alias.__code__, {"__name__": module})
    return make(_ALIAS, name, value, parameters)


def _call_alias(kind: Any, name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    return kind(name, value, type_params=parameters)


def _arguments_of_parameter(obj: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The constraints of a type parameter, and its other arguments."""
    options: dict[str, Any] = {}
    if hasattr(obj, "has_default") and obj.has_default():  # from 3.13 on
        options["default"] = obj.__default__
    if type(obj) is not typing.TypeVarTuple:
        options["bound"] = obj.__bound__
        variance = {"covariant": obj.__covariant__, "contravariant": obj.__contravariant__}
        options |= {"infer_variance": True} if getattr(obj, "__infer_variance__", False) else variance
    return getattr(obj, "__constraints__", ()), options


def _make_parameter(kind: Any, name: str, constraints: tuple[Any, ...], options: dict[str, Any], module: str) -> Any:
    parameter = kind(name, *constraints, **options)
    parameter.__module__ = module
    return parameter


# --------------------------------------------------------------------------------------------- table for picklers


def _reduce_cached_property(descriptor: Any) -> Reduced:
    state = {key: value for key, value in vars(descriptor).items() if key not in {"func", "lock"}}
    return functools.cached_property, (descriptor.func,), state, None, None, _update


def _reduce_dispatching_method(descriptor: Any) -> Reduced:
    return _make_dispatching_method, (descriptor.dispatcher, descriptor.func)


def _reduce_weak_dictionary(dictionary: Any) -> Reduced:
    return type(dictionary), (dict(dictionary.items()),)


def _make_dispatching_method(dispatcher: Any, function: Any) -> Any:
    made = functools.singledispatchmethod(function)
    made.dispatcher = dispatcher
    return made


REDUCERS: MutableMapping[type, Callable[[Any], Any]] = ChainMap(
    {
        **{kind: reduce for kind, reduce in _compat.cloudpickle_reducers().items() if kind is not typing.TypeVar},
        CodeType: _reduce_code,
        functools.cached_property: _reduce_cached_property,
        functools.singledispatchmethod: _reduce_dispatching_method,
        weakref.WeakKeyDictionary: _reduce_weak_dictionary,
        weakref.WeakValueDictionary: _reduce_weak_dictionary,
    },
    copyreg.dispatch_table,
)
"""The reducers of types that pickle cannot handle, or not in the way needed here."""
