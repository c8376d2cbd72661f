"""The one way in which packages of this distribution offer names without importing them first.

A worker process imports a small part of the package only, and should not pay for the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def names_from(homes: Mapping[str, str], namespace: dict[str, Any]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package that imports a name when it is first used.

    Args:
        homes: In which module each name is.
        namespace: The globals of the package, which keep the name from then on.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")
        value = namespace[name] = getattr(importlib.import_module(homes[name]), name)
        return value

    return find
