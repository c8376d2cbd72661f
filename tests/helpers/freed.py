"""Whether what a program has let go of is freed at once, and does not wait for the garbage collector."""

from __future__ import annotations

import gc
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Thing:
    """An argument or a result that can be referred to weakly."""


class Kept(dict[str, list[weakref.ref[Any]]]):
    """Weak references to what is to be freed, by what it is."""

    def add(self, kind: str, *objects: Any) -> None:
        """Follow these objects."""
        self.setdefault(kind, []).extend(weakref.ref(obj) for obj in objects)

    @property
    def alive(self) -> dict[str, int]:
        """How many of each kind are still there."""
        counts = {kind: sum(ref() is not None for ref in refs) for kind, refs in self.items()}
        return {kind: count for kind, count in counts.items() if count}


@contextmanager
def counting_references_only() -> Iterator[Kept]:
    """Without the garbage collector: only what nobody refers to is freed."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield Kept()
    finally:
        if was_enabled:
            gc.enable()
