"""What is said of users' objects and exceptions, which may not let themselves be shown or noted."""

from __future__ import annotations

import contextlib


def safe_repr(thing: object) -> str:
    """The `repr` of something of the user's, also where that raises."""
    try:
        return repr(thing)
    except Exception as error:  # noqa: BLE001 - of the user's own __repr__; told in its place
        return f"<{type(thing).__name__}, whose repr raises {type(error).__name__}>"


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception of the user's, unless its class does not let one."""
    with contextlib.suppress(Exception):
        BaseException.add_note(error, note)
