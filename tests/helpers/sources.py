"""The package's own source, read by several tests: each module is parsed once."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import amltk


@cache
def trees() -> dict[str, ast.Module]:
    """The syntax tree of each module of the package, by its path relative to the package."""
    root = Path(amltk.__file__).parent
    return {
        path.relative_to(root).as_posix(): ast.parse(path.read_text("utf-8")) for path in sorted(root.rglob("*.py"))
    }
