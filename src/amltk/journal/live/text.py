"""Users' texts, in a form that files, databases and pages accept."""

from __future__ import annotations

from typing import Any

from amltk._checks import as_real


def real(value: Any) -> float | None:
    """The same as `as_real`, with a fast path for floats and None."""
    return value if type(value) is float else None if value is None else as_real(value)


def writable(text: Any) -> str:
    """A text that can be encoded: what cannot, such as the bytes of an undecodable file name, is escaped."""
    if not isinstance(text, str):
        return ""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
