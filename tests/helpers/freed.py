"""Checks that objects a program drops are freed at once, without waiting for the garbage collector."""

from __future__ import annotations

import gc
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Thing:
    """An argument or a result that supports weak references."""


class Kept(dict[str, list[weakref.ref[Any]]]):
    """Weak references to the objects that should be freed, by kind."""

    def add(self, kind: str, *objects: Any) -> None:
        """Track these objects."""
        self.setdefault(kind, []).extend(weakref.ref(obj) for obj in objects)

    @property
    def alive(self) -> dict[str, int]:
        """How many of each kind are still alive."""
        counts = {kind: sum(ref() is not None for ref in refs) for kind, refs in self.items()}
        return {kind: count for kind, count in counts.items() if count}


@contextmanager
def counting_references_only() -> Iterator[Kept]:
    """Disable the garbage collector: only objects without references are freed."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield Kept()
    finally:
        if was_enabled:
            gc.enable()
