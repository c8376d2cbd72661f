"""To be told when something was imported."""

from __future__ import annotations

import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class ImportWatch(MetaPathFinder):
    """While entered: calls a function when an import has ended, with all that it has imported itself, if it was new.

    Imports cost nothing where the module is there already, and a microsecond for each module where it is not. No trace
    is left in a module.

    Args:
        then: Is called, in the thread that has imported something, also if that has failed.
    """

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then
        self._thread = _Thread()

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *_: object) -> None:
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Have the others find it, and be told when it is executed; not of what is imported meanwhile."""
        if self._thread.is_busy:
            return None
        self._thread.is_busy = True  # two that watch would ask each other
        try:
            spec = self._ask_others(fullname, path, target)
        finally:
            self._thread.is_busy = False
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, self.execute)
        return spec

    def _ask_others(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)  # older ones have none, and are asked afterwards
            spec: ModuleSpec | None = None if finder is self or find is None else find(fullname, path, target)
            if spec is not None:
                return spec
        return None

    def execute(self, loader: Any, module: ModuleType) -> None:
        """Execute a module, and tell that it is done."""
        self._thread.is_busy = True
        try:
            loader.exec_module(module)
        finally:
            self._thread.is_busy = False
            self._then()


class _Thread(threading.local):
    is_busy = False
    """Whether this thread is looking for, or executing, a module that is watched."""


class _Loader(Loader):
    """Stands for a loader until the module is executed."""

    def __init__(self, loader: Any, execute: Callable[[Any, ModuleType], None]) -> None:
        self._loader = loader
        self._execute = execute

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None, "the import system has set it"
        module.__spec__.loader = module.__loader__ = self._loader
        self._execute(self._loader, module)
