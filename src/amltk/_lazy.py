"""Lets a package of this distribution offer names without importing them in advance.

A worker process imports only a small part of the package, and should not pay for the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def names_from(homes: Mapping[str, str], namespace: dict[str, Any]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package that imports each name on first use.

    Args:
        homes: The module of each name.
        namespace: The globals of the package, where the name is kept from then on.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")
        value = namespace[name] = getattr(importlib.import_module(homes[name]), name)
        return value

    return find
