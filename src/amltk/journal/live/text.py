"""Texts that users wrote, as files, databases and pages can take them."""

from __future__ import annotations

from typing import Any

from amltk._checks import as_real


def real(value: Any) -> float | None:
    """The same as `as_real`, at once for what most numbers are."""
    return value if type(value) is float else None if value is None else as_real(value)


def writable(text: Any) -> str:
    """A text that can be encoded: what Python cannot write of it, such as a broken file name, becomes an escape."""
    if not isinstance(text, str):
        return ""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
