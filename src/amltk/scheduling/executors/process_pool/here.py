"""What a worker knows of its parent's program. Pickles refer to these functions; in the parent they are not called."""

from __future__ import annotations

import importlib
import io
import pickle
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType

_objects: dict[int, Any] = {}  # what was defined, by number
_pieces: dict[int, tuple[int, ...]] = {}  # which numbers came together, by the number of their piece
_versions: dict[tuple[str, str], int] = {}  # of globals, by module and name
_inherited: dict[str, dict[str, Any]] = {}  # what modules had when this worker was forked from the program itself
_ask: Callable[[str, str | None], tuple[int, bytes]] | None = None

_MISSING = object()


class _Broken:
    """Stands for what could not be unpickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Unpickler(pickle.Unpickler):
    """Unpickles what refers to objects that were defined before."""

    def persistent_load(self, number: Any) -> Any:
        return definition(number)


# ---------------------------------------------------------------------------------------------- what the program has


def connect(ask: Callable[[str, str | None], tuple[int, bytes]] | None) -> None:
    """Say how to ask the program for a name of a module, or for a module; None: nobody can be asked.

    Args:
        ask: Is given the module and the name (None for the module itself), and gives back the number of a definition
            and a pickle; 0 and nothing if the program does not have it.
    """
    global _ask  # noqa: PLW0603 - a worker has one parent
    _ask = ask


def fetch(module: str, name: str) -> bool:
    """Have the program's value of a global be here; False if the program does not have it.

    Raises:
        AttributeError: It cannot be pickled.
        BaseException: What was raised when it was unpickled.
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
    """What the program says of a module that was not found; None if it does not have it either."""
    if _ask is None:
        return None
    _, answer = _ask(name, None)
    return pickle.loads(answer) if answer else None


# ---------------------------------------------------------------------------------------------------- definitions


def inherit(main: dict[str, Any]) -> None:
    """Note what `__main__` had when this worker was forked from the program itself; forget what that knew."""
    for known in (_objects, _pieces, _versions, _inherited):
        known.clear()
    _inherited["__main__"] = dict(main)


def definition(number: int) -> Any:
    """What was defined under that number.

    Raises:
        BaseException: What was raised when it was unpickled.
    """
    obj = _objects[number]
    if type(obj) is _Broken:
        raise obj.error
    return obj


def attribute(obj: Any, names: str) -> Any:
    """An attribute of an attribute and so on."""
    for name in names.split("."):
        obj = getattr(obj, name)
    return obj


def load(number: int, payload: bytes) -> None:
    """Take in a piece: objects that were pickled together, see `definitions.Piece`."""
    file = io.BytesIO(payload)
    entries = pickle.load(file)
    at = file.tell()
    unpickler = _Unpickler(file)
    for entry, size, module, name, version in entries:
        file.seek(at)
        at += size
        try:
            obj = unpickler.load()
        except BaseException as error:  # noqa: BLE001 - raised by the calls that use it
            obj = _Broken(error)
            memo = unpickler.memo
            unpickler = _Unpickler(file)
            unpickler.memo = memo
        _objects[entry] = obj
        if version and type(obj) is not _Broken:
            _place(module, name, version, obj)
    _pieces[number] = tuple(entry[0] for entry in entries)


def define(number: int, payload: bytes) -> None:
    """Take in a definition: an object that calls name, if all that it needs could be unpickled."""
    root, needed = pickle.loads(payload)
    broken = (_objects[need] for need in (root, *needed) if type(_objects.get(need)) is _Broken)
    _objects[number] = next(broken, None) or _objects[root]


def forget(number: int) -> None:
    """Let go of an object, a definition or a piece."""
    _objects.pop(number, None)
    for entry in _pieces.pop(number, ()):
        _objects.pop(entry, None)


def _place(module: str, name: str, version: int, obj: Any) -> None:
    """Let a global have a value, unless this worker has set it by itself and the program has not set it since."""
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
    """Whether the program has told this worker of a global."""
    return (module, name) in _versions


def look_up(module: Any, qualname: str) -> Any:
    """What a module has under that name; None if nothing."""
    found = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
        if found is None:
            return None
    return found


# ------------------------------------------------------------------------------------------------------ functions


def set_function(function: FunctionType, state: dict[str, Any]) -> None:
    """Give a function what was not there yet when it was made: it may refer to itself."""
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
    """Have tracebacks show lines of a file that is none, such as a cell of a notebook."""
    linecache = importlib.import_module("linecache")
    linecache.cache.setdefault(filename, (sum(map(len, lines)), None, lines, filename))
