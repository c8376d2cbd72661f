"""Messages about users' objects and exceptions, whose own methods may raise."""

from __future__ import annotations

import contextlib


def safe_repr(thing: object) -> str:
    """The `repr` of a user's object, even if that raises."""
    try:
        return repr(thing)
    except Exception as error:  # noqa: BLE001 - the user's own __repr__ failed; reported instead
        return f"<{type(thing).__name__}, whose repr raises {type(error).__name__}>"


def add_note(error: BaseException, note: str) -> None:
    """Add a note to a user's exception, unless its class does not allow it."""
    with contextlib.suppress(Exception):
        BaseException.add_note(error, note)
