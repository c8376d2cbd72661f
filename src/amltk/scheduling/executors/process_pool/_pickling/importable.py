"""Which modules of this process a fresh interpreter could import.

The others *travel*, that is, go to workers by value: the program's `__main__`, which is never run again, and modules
that were created by hand, or loaded from a file under a name by which they cannot be found.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors.process_pool._pickling.worker_state import look_up

if TYPE_CHECKING:
    from types import ModuleType

MAIN = "__main__"
MAIN_OF_A_CHILD = "__mp_main__"
"""The name that `multiprocessing` gives the user's program in its child processes; they may create pools, too."""

_verdicts: dict[str, tuple[ModuleType, bool]] = {}
"""Whether a module travels, by name; stored with the module, since another one may take its name."""


def travels(name: str) -> bool:
    """Whether the definitions of this module of `sys.modules` go to workers by value."""
    module = sys.modules.get(name)
    if module is None:
        return False
    verdict = _verdicts.get(name)
    if verdict is None or verdict[0] is not module:
        verdict = _verdicts[name] = (module, not _is_found_again(name, module))
    return verdict[1]


def have_travel(name: str) -> None:
    """Make a module travel, since a worker did not find it."""
    _verdicts[name] = (sys.modules[name], True)


def is_importable(obj: Any) -> bool:
    """Whether a fresh interpreter could import this function or class by its name."""
    name = getattr(obj, "__module__", None)
    module = sys.modules.get(name) if isinstance(name, str) else None
    return module is not None and look_up(module, _name_of(obj)) is obj and not travels(str(name))


def home_of(obj: Any) -> tuple[str, str] | None:
    """The travelling module that has this object, and its name there; None if there is none."""
    name = getattr(obj, "__module__", None)
    if not isinstance(name, str) or not travels(name):
        return None
    qualname = _name_of(obj)
    return (name, qualname) if look_up(sys.modules[name], qualname) is obj else None


def module_of_globals(globals_: dict[str, Any]) -> str | None:
    """The name of the travelling module with these globals; None if there is none."""
    name = globals_.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or getattr(module, "__dict__", None) is not globals_:
        main = sys.modules[MAIN]  # whatever its `__name__` is
        return MAIN if main.__dict__ is globals_ else None
    return name if travels(str(name)) else None


def _name_of(obj: Any) -> str:
    """The name of an object in its module; type parameters and aliases have only a `__name__`."""
    name: str = getattr(obj, "__qualname__", None) or obj.__name__
    return name


def _is_found_again(name: str, module: ModuleType) -> bool:
    if name in {MAIN, MAIN_OF_A_CHILD} or module is sys.modules.get(MAIN):
        return False
    parent, _, _ = name.rpartition(".")
    if parent and (parent not in sys.modules or travels(parent)):
        return False
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None)
    if parent and not getattr(spec, "has_location", False):
        return True  # created when its package is imported, like `os.path`
    path = getattr(sys.modules[parent], "__path__", None) if parent else None
    found = _search(name, path)
    if found is None:
        return bool(parent) and path is None
    return _is_same(origin or getattr(module, "__file__", None), found.origin)


def _search(name: str, path: Any) -> Any:
    """Look for a module as if it had not been imported."""
    for finder in sys.meta_path:
        with suppress(Exception):  # third-party finders may raise anything
            found = finder.find_spec(name, path)
            if found is not None:
                return found
    return None


def _is_same(here: Any, found: Any) -> bool:
    if not isinstance(here, str) or not isinstance(found, str) or here == found:
        return True
    with suppress(OSError):
        return os.path.samefile(here, found)
    return not os.path.isfile(here) or not os.path.isfile(found)  # for example "frozen", or within an archive
