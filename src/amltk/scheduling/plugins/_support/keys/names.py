"""The names of functions and classes, the same in every session."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def full_name(thing: Any) -> str:
    """The module of a function or class, and its name there."""
    return f"{module_name(thing.__module__)}.{thing.__qualname__}"


def module_name(name: str | None) -> str:
    """The name of a module. That of a program is the name by which others import it, since it may be one of them."""
    if name != "__main__":
        return name or ""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return "__main__" if file is None else Path(file).stem
