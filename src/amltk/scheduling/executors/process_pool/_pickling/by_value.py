"""A pickler that sends by value what a worker could not import.

Globals of a by-value module that a function uses are not in its pickle: they are looked up by name, see `definitions`.
"""

from __future__ import annotations

import pickle
import sys
from importlib import import_module
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors._transfer.descriptors import RULES, Ticket, refuse
from amltk.scheduling.executors.process_pool._pickling import main_module
from amltk.scheduling.executors.process_pool._pickling.importable import MAIN, is_importable, module_of_globals, travels
from amltk.scheduling.executors.process_pool._pickling.names import names_of
from amltk.scheduling.executors.process_pool._pickling.reducers import (
    BY_NAME,
    REDUCERS,
    is_dispatcher,
    reduce_class,
    reduce_dispatcher,
    reduce_function,
    reduce_named,
    source_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from amltk.scheduling.executors.process_pool._pickling.names import Names

DEFINED: tuple[Any, ...] = (FunctionType, type, *BY_NAME)
"""The types of definitions that are sent to each worker only once."""

_ABOUT_MODULE = ("__package__", "__name__", "__path__", "__file__")
"""Globals that relative imports need."""


class _Globals:
    """Stands for the globals of a by-value module: a worker replaces it by its own."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return main_module.globals_of, tuple(main_module.describe_all(self._name))


class ByValue(pickle.Pickler):
    """See the module's docstring.

    Args:
        file: The file to write to.
        buffer_callback: As in `pickle.Pickler`.
        modules: Receives the names of the modules that loading the pickle imports from.
    """

    dispatch_table: Any = REDUCERS

    def __init__(self, file: Any, buffer_callback: Any, modules: set[str]) -> None:
        super().__init__(file, 5, buffer_callback=buffer_callback)
        self._modules = modules
        self._globals: dict[int, tuple[Any, Any]] = {}  # by id: the globals, and what stands for them

    def reducer_override(self, obj: Any) -> Any:
        """Take apart objects that cannot be imported, that have only a name, or that have a descriptor."""
        if (rule := RULES.get(type(obj))) is not None:
            return rule(obj, self.lend)
        if isinstance(obj, DEFINED):
            if is_importable(obj):
                self._modules.add(obj.__module__)
                return NotImplemented
            return self.take_apart(obj)
        if isinstance(obj, ModuleType):
            return self._reduce_module(obj)
        if isinstance(obj, BuiltinFunctionType) and isinstance(obj.__module__, str):
            self._modules.add(obj.__module__)
        return NotImplemented

    def lend(self, descriptor: int) -> Ticket:
        """Lend a descriptor while the pickle is needed."""
        return refuse(descriptor)

    def take_apart(self, obj: Any) -> Any:
        """Reduce a function, a class or an object that has only a name."""
        if isinstance(obj, type):
            self.note_class(obj)
            return reduce_class(obj)
        if not isinstance(obj, FunctionType):
            return reduce_named(obj)
        return reduce_dispatcher(obj) if is_dispatcher(obj) else self._reduce_function(obj)

    def _reduce_function(self, function: FunctionType) -> Any:
        names = names_of(function.__code__)
        present = function.__globals__
        home = module_of_globals(present)
        self.note_function(function, names, home)
        modules = [present[name] for name in names.globals if isinstance(present.get(name), ModuleType)]
        for cell in function.__closure__ or ():
            try:
                if isinstance(cell.cell_contents, ModuleType):
                    modules.append(cell.cell_contents)
            except ValueError:
                pass  # the cell is empty
        submodules = [found for module in modules for found in _submodules(module.__name__, names.attributes)]
        imported = (*names.imports, *submodules)
        self._modules.update(name for name in imported if name in sys.modules and not travels(name))
        if home is not None:
            used = self.carried(home, names)
        else:
            used = {name: present[name] for name in names.globals if name in present}
        source = source_of(function.__code__)
        return reduce_function(function, self._stand_in(present, home), used, submodules, source)

    def _stand_in(self, present: dict[str, Any], home: str | None) -> Any:
        """What is pickled for functions' globals: the same object for all functions that share them."""
        known = self._globals.get(id(present))
        if known is None:
            stand_in: Any = {key: present[key] for key in _ABOUT_MODULE if key in present}
            known = self._globals[id(present)] = (present, _Globals(home) if home is not None else stand_in)
        return known[1]

    def _reduce_module(self, module: ModuleType) -> Any:
        name = module.__name__
        if sys.modules.get(name) is not module:
            main = sys.modules[MAIN]
            if module is not main:  # no longer in sys.modules, or never was
                state = {key: value for key, value in vars(module).items() if key != "__builtins__"}
                return ModuleType, (name,), state
            name = MAIN
        if travels(name):
            return main_module.module_of, tuple(main_module.describe_all(name))
        self._modules.add(name)
        return import_module, (name,)

    def carried(self, home: str, names: Names) -> dict[str, Any]:
        """The globals of a by-value module that are pickled with a function: none here, they are looked up by name."""
        del home, names
        return {}

    def note_function(self, function: FunctionType, names: Names, home: str | None) -> None:
        """Called for each function that is taken apart."""

    def note_class(self, cls: type) -> None:
        """Called for each class that is taken apart."""


def _submodules(package: str, attributes: Iterable[str]) -> Iterator[str]:
    """The imported submodules that code with these attributes may refer to when it uses a package."""
    for attribute in attributes:
        name = f"{package}.{attribute}"
        if sys.modules.get(name) is not None:
            yield name
            yield from _submodules(name, attributes)
