"""A worker's view of its parent's program. Pickles refer to these functions; they are not called in the parent."""

from __future__ import annotations

import contextlib
import importlib
import io
import pickle
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType

_objects: dict[int, Any] = {}  # defined objects by number
_pieces: dict[int, tuple[int, ...]] = {}  # the numbers in each piece, by the number of the piece
_versions: dict[tuple[str, str], int] = {}  # of globals, by module and name
_inherited: dict[str, dict[str, Any]] = {}  # globals of modules when this worker was forked from the program
_ask: Callable[[str, str | None], tuple[int, bytes]] | None = None

_not_loaded: BaseException | None = None  # why a piece could not be loaded: its numbers are not known

_MISSING = object()


class _Broken:
    """Stands for an object that could not be unpickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Unpickler(pickle.Unpickler):
    """Unpickles pickles that refer to previously defined objects."""

    def persistent_load(self, number: Any) -> Any:
        return definition(number)


# ---------------------------------------------------------------------------------------------- names of the program


def connect(ask: Callable[[str, str | None], tuple[int, bytes]] | None) -> None:
    """Set how to ask the program for a name of a module, or for a module; None if that is not possible.

    Args:
        ask: Called with the module and the name (None for the module itself); returns the number of a definition and a
            pickle, or 0 and nothing if the program does not have it.
    """
    global _ask  # noqa: PLW0603 - a worker has one parent
    _ask = ask


def fetch(module: str, name: str) -> bool:
    """Set a global to the program's value; False if the program does not have it.

    Raises:
        AttributeError: It cannot be pickled.
        BaseException: Whatever unpickling it raised.
    """
    if _ask is None:
        return False
    number, problem = _ask(module, name)
    if problem:
        raise AttributeError(problem.decode())
    if number:
        definition(number)
    return bool(number)


def fetch_module(name: str) -> Any:
    """The program's answer about a module that was not found; None if it does not have it either."""
    if _ask is None:
        return None
    _, answer = _ask(name, None)
    return pickle.loads(answer) if answer else None


# ---------------------------------------------------------------------------------------------------- definitions


def inherit(main: dict[str, Any]) -> None:
    """Record the contents of `__main__` when this worker was forked from the program; forget what the program knew."""
    global _not_loaded  # noqa: PLW0603 - a worker has one program
    for known in (_objects, _pieces, _versions, _inherited):
        known.clear()
    _not_loaded = None
    _inherited["__main__"] = dict(main)


def definition(number: int) -> Any:
    """The object defined under a number.

    Raises:
        BaseException: Whatever unpickling it raised.
    """
    try:
        obj = _objects[number]
    except KeyError:
        if _not_loaded is None:
            raise
        raise _not_loaded from None
    if type(obj) is _Broken:
        raise obj.error
    return obj


def attribute(obj: Any, names: str) -> Any:
    """An attribute of an attribute and so on."""
    for name in names.split("."):
        obj = getattr(obj, name)
    return obj


def load(number: int, payload: bytes) -> None:
    """Load a piece: objects that were pickled together, see `definitions.pieces`."""
    global _not_loaded  # noqa: PLW0603 - a worker has one program
    file = io.BytesIO(payload)
    try:
        entries = pickle.load(file)
    except MemoryError as error:  # raised again by the calls that use it
        _not_loaded = error
        return
    at = begin = file.tell()
    unpickler: Any = _Unpickler(file)
    for position, (entry, size, module, name, version) in enumerate(entries):
        file.seek(at)
        at += size
        try:
            obj = unpickler.load()
        except BaseException as error:  # noqa: BLE001 - raised again by the calls that use it
            obj = _Broken(error)
            if type(unpickler) is _Unpickler:
                unpickler = _salvager(unpickler, file, begin, [known[1] for known in entries[:position]])
        _objects[entry] = obj
        if version and type(obj) is not _Broken:
            _place(module, name, version, obj)
    _pieces[number] = tuple(entry[0] for entry in entries)


def _salvager(unpickler: _Unpickler, file: io.BytesIO, begin: int, sizes: list[int]) -> Any:
    """What loads the rest of a piece, after an object that could not be unpickled; it comes after those of `sizes`."""
    from amltk.scheduling.executors.process_pool._pickling import salvage  # rarely needed

    memo = salvage.memo_before(file.getbuffer(), begin, sizes, unpickler.memo.copy())
    file.seek(begin + sum(sizes))
    salvager = salvage.Salvager(file, memo, definition)
    with contextlib.suppress(BaseException):  # its error is known
        salvager.load()
    return salvager


def define(number: int, payload: bytes) -> None:
    """Load a definition: an object that calls refer to, if everything that it needs could be unpickled."""
    root, needed = pickle.loads(payload)
    needs = (root, *needed)
    if _not_loaded is not None and not _objects.keys() >= set(needs):
        _objects[number] = _Broken(_not_loaded)
        return
    broken = (_objects[need] for need in needs if type(_objects.get(need)) is _Broken)
    _objects[number] = next(broken, None) or _objects[root]


def forget(number: int) -> None:
    """Release an object, a definition or a piece."""
    _objects.pop(number, None)
    for entry in _pieces.pop(number, ()):
        _objects.pop(entry, None)


def _place(module: str, name: str, version: int, obj: Any) -> None:
    """Set a global, unless this worker has set it itself and the program has not set it since."""
    if module not in sys.modules:
        importlib.import_module(module)
    globals_ = vars(sys.modules[module])
    known = _versions.get((module, name), 0)
    _versions[module, name] = max(version, known)
    if version <= known:
        return
    if known or name not in globals_ or _is_inherited(module, name, globals_):
        globals_[name] = obj


def _is_inherited(module: str, name: str, globals_: dict[str, Any]) -> bool:
    if not _inherited:
        return False
    inherited = _inherited.setdefault(module, dict(globals_))
    return inherited.get(name, _MISSING) is globals_[name]


def is_of_the_program(module: str, name: str) -> bool:
    """Whether the program has sent this worker a global."""
    return (module, name) in _versions


def look_up(module: Any, qualname: str) -> Any:
    """The object with a qualified name in a module; None if there is none."""
    found = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
        if found is None:
            return None
    return found


# ------------------------------------------------------------------------------------------------------ functions


def set_function(function: FunctionType, state: dict[str, Any]) -> None:
    """Set the parts of a function that were missing when it was created, since it may refer to itself."""
    for name in state.pop("submodules"):
        importlib.import_module(name)
    if source := state.pop("source"):
        _show_source(*source)
    for name, value in state.pop("globals").items():
        function.__globals__.setdefault(name, value)
    for cell, value in zip(function.__closure__ or (), state.pop("closure"), strict=True):
        if value:
            cell.cell_contents = value[0]
    function.__dict__.update(state.pop("attributes"))
    for name, value in state.items():
        setattr(function, name, value)


def _show_source(filename: str, lines: list[str]) -> None:
    """Make tracebacks show the lines of code that is not in a file, such as a notebook's cell."""
    linecache = importlib.import_module("linecache")
    linecache.cache.setdefault(filename, (sum(map(len, lines)), None, lines, filename))
