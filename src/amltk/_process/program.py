"""The program's arguments, import path and environment, for other processes and files. They may hold anything."""

from __future__ import annotations

import os
import sys
from typing import Any

_PLAIN = (int, float, bool, bytes, type(None))
"""The types of arguments that are passed on besides text; a subclass may not be importable elsewhere."""


def arguments() -> list[Any]:
    """The program's arguments, as far as they are plain data; an embedded interpreter may have none."""
    found: list[Any] = []
    for argument in _entries("argv"):
        if isinstance(argument, str):
            found.append(str.__str__(argument))
        elif type(argument) in _PLAIN:
            found.append(argument)
    return found


def import_path() -> list[str]:
    """The import path; import ignores entries that are not strings, such as a `Path`."""
    return [str.__str__(entry) for entry in _entries("path") if isinstance(entry, str)]


def environment() -> dict[str, str]:
    """The environment variables for other processes."""
    variables: dict[Any, Any] = dict(os.environ)  # which the program may have replaced
    return {name: value for name, value in variables.items() if isinstance(name, str) and isinstance(value, str)}


def warning_options() -> list[str]:
    """The options `-W` of the interpreter."""
    return [str.__str__(option) for option in _entries("warnoptions") if isinstance(option, str)]


def _entries(name: str) -> list[Any]:
    entries = getattr(sys, name, None)
    return list(entries) if isinstance(entries, list | tuple) else []
