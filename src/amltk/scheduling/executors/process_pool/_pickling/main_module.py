"""The program's `__main__` in a worker, and other modules that a worker cannot import.

The program is never run again in a worker: the worker's `__main__` has the attributes of the real one, so that relative
imports, `importlib.resources` and tracebacks work as in the program, and the names that calls use. A missing name is
requested from the pool, which answers with the program's value.

For example, the program is started by `python -m app.train` and contains

    RATE = 0.1
    def step(x): return RATE * x
    pool.submit(step, 2)

The worker creates a module `__main__` with `__package__ = "app"` and a `__spec__` of that name. Before the call, a
definition with two objects arrives: `step`, whose globals are those of the worker's `__main__`, and `RATE`, which is
set there unless the worker has set it itself. If the call does `pickle.load(file)`, and the file names
`__main__.Model`, then `Model` is missing: the module's `__getattr__` sends "fetch Model of `__main__`", waits, and gets
its definition.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import types
import zipimport
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk.scheduling.executors.process_pool._pickling import worker_state
from amltk.scheduling.executors.process_pool._pickling.importable import MAIN, have_travel, travels

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = os.urandom(16).hex()
"""Identifies this process; a copy made by fork has the same value."""

_ATTRIBUTES = ("__name__", "__doc__", "__package__", "__file__", "__cached__", "__path__")

_NEVER_ASKED = frozenset({
    *_ATTRIBUTES, "__spec__", "__loader__", "__builtins__", "__annotations__", "__annotate__", "__wrapped__",
    "__getattr__",
})  # fmt: skip
"""Attributes in the description, or never requested from the program; much code checks for them."""

_FILE_LOADERS = (
    importlib.machinery.SourceFileLoader,
    importlib.machinery.SourcelessFileLoader,
    importlib.machinery.ExtensionFileLoader,
)


class Loader(NamedTuple):
    """The loader of a module, so that it can be created again elsewhere.

    Attributes:
        kind: Its class.
        arguments: The arguments of the class; None if the class itself is the loader.
    """

    kind: Any
    arguments: tuple[str, ...] | None


class Description(NamedTuple):
    """A module without its definitions.

    Attributes:
        name: Its name in `sys.modules`.
        attributes: Its attributes among `_ATTRIBUTES`.
        loader: Its `__loader__`; None if it has none that can be created again.
        spec: Of its `__spec__`: the name, the origin, whether that is a location, the submodule search path, and the
            loader; None if it has no `__spec__`.
    """

    name: str
    attributes: dict[str, Any]
    loader: Loader | None
    spec: tuple[str, str | None, bool, list[str] | None, Loader | None] | None


def describe(name: str) -> Description:
    """Describe a module of `sys.modules`."""
    module = sys.modules[name]
    attributes = {key: _plain(vars(module)[key]) for key in _ATTRIBUTES if key in vars(module)}
    spec = getattr(module, "__spec__", None)
    described = None
    if isinstance(spec, importlib.machinery.ModuleSpec):
        places = spec.submodule_search_locations
        loader = _describe_loader(spec.loader)
        described = (spec.name, spec.origin, spec.has_location, None if places is None else list(places), loader)
    return Description(name, attributes, _describe_loader(getattr(module, "__loader__", None)), described)


def describe_all(name: str) -> list[Description]:
    """Describe a module, preceded by its travelling parent packages; nothing for `__main__`."""
    if name == MAIN:
        return []
    parent = name.rpartition(".")[0]
    return [*(describe_all(parent) if parent and travels(parent) else []), describe(name)]


def module_of(*descriptions: Description) -> types.ModuleType:
    """The module of the last description; `__main__` if there is none. Missing modules are created."""
    for description in descriptions:
        if description.name not in sys.modules:
            make(description)
    return sys.modules[descriptions[-1].name if descriptions else MAIN]


def globals_of(*descriptions: Description) -> dict[str, Any]:
    """The globals of `module_of`."""
    return vars(module_of(*descriptions))


def _plain(value: Any) -> Any:
    """Attributes that are set by the import system are strings, lists of strings, or None."""
    if value is None or isinstance(value, str):
        return value if value is None else str(value)
    try:
        return [str(item) for item in value]
    except TypeError:
        return str(value)


def _describe_loader(loader: Any) -> Loader | None:
    if isinstance(loader, type):  # for built-in modules and `python -c`
        return Loader(loader, None) if loader.__module__.startswith("_frozen_importlib") else None
    if isinstance(loader, zipimport.zipimporter):
        return Loader(zipimport.zipimporter, (f"{loader.archive}/{loader.prefix}".rstrip("/"),))
    name, path = getattr(loader, "name", None), getattr(loader, "path", None)
    if not isinstance(name, str) or not isinstance(path, str):
        return None
    kinds = [kind for kind in _FILE_LOADERS if isinstance(loader, kind)]
    if not kinds and not path.endswith(".py"):
        return None
    return Loader(kinds[0] if kinds else importlib.machinery.SourceFileLoader, (name, path))


def _make_loader(loader: Loader | None) -> Any:
    if loader is None or loader.arguments is None:
        return None if loader is None else loader.kind
    try:
        return loader.kind(*loader.arguments)
    except ImportError:  # the archive is gone
        return None


class TravellingModule(types.ModuleType):
    """A module whose names come from the program: missing names are requested."""

    def __getattr__(self, name: str) -> Any:
        """Request a name from the program.

        Raises:
            AttributeError: The program's module does not have it.
        """
        if name not in _NEVER_ASKED and worker_state.fetch(_key(self), name):
            value = vars(self).get(name, worker_state)
            if value is not worker_state:
                return value
        raise AttributeError(f"module {vars(self).get('__name__')!r} has no attribute {name!r}", name=name, obj=self)


def _key(module: types.ModuleType) -> str:
    return MAIN if module is sys.modules.get(MAIN) else module.__name__


def make(description: Description) -> types.ModuleType:
    """Create a module from its description, and register it."""
    module = TravellingModule(description.name)
    fill(module, description)
    sys.modules[description.name] = module
    have_travel(description.name)
    parent, _, last = description.name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], last, module)
    return module


def fill(module: types.ModuleType, description: Description) -> None:
    """Set the attributes of a module from a description."""
    module.__dict__.update(description.attributes, __builtins__=__builtins__)
    module.__loader__ = _make_loader(description.loader)
    if description.spec is None:
        module.__spec__ = None
        return
    name, origin, has_location, places, loader = description.spec
    spec = importlib.machinery.ModuleSpec(name, _make_loader(loader), origin=origin, is_package=places is not None)
    spec.has_location = has_location
    if places is not None:
        spec.submodule_search_locations = places
    if "__cached__" in description.attributes:
        spec.cached = description.attributes["__cached__"]
    module.__spec__ = spec


def begin(program: str, description: Description) -> None:
    """Make this worker's `__main__` that of the program.

    Args:
        program: The `PROGRAM` of the process that runs the program.
        description: The description of its `__main__`.
    """
    if program == PROGRAM:  # this worker was forked from it, and has the real `__main__`
        main = sys.modules[MAIN]
        worker_state.inherit(vars(main))
        if type(main) is types.ModuleType:
            main.__class__ = TravellingModule
    else:
        main = sys.modules[MAIN]
        if isinstance(main, TravellingModule):  # created in the warm process: modules imported there may refer to it
            fill(main, description)
        else:
            main = make(description)
        if main.__name__ != MAIN:  # the program is itself a child of multiprocessing
            sys.modules[main.__name__] = main
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())


class Finder:
    """Finds modules that no other finder finds in a worker: it asks the program for them."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Called by the import system."""
        del target
        told = worker_state.fetch_module(name)
        if told is None:
            return None
        if isinstance(told, Description):
            loader: Any = _Made(told)
            return importlib.machinery.ModuleSpec(name, loader, is_package="__path__" in told.attributes)
        new, file, places = told
        sys.path.extend(entry for entry in new if entry not in sys.path)
        found = importlib.machinery.PathFinder.find_spec(name, path)
        if found is None:
            found = importlib.util.spec_from_file_location(name, file, submodule_search_locations=places)
        return found


def answer(name: str) -> Description | tuple[list[str], str, list[str] | None] | None:
    """The program's answer about a module that a worker did not find; None if the program does not have it either.

    Returns:
        Its description if it travels; otherwise where it was found: the path, its file, and its submodule search path.
    """
    if name not in sys.modules:
        return None
    if not travels(name):
        spec = getattr(sys.modules[name], "__spec__", None)
        if isinstance(getattr(spec, "loader", None), _FILE_LOADERS) and spec is not None and spec.origin:
            places = spec.submodule_search_locations
            return [str(entry) for entry in sys.path], spec.origin, None if places is None else list(places)
        have_travel(name)
    return describe(name)


class _Made:
    """Loads a travelling module: creates it, and lets missing names be requested."""

    def __init__(self, description: Description) -> None:
        self._description = description

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Called by the import system."""
        del spec
        return TravellingModule(self._description.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Called by the import system."""
        fill(module, self._description)
        have_travel(self._description.name)
