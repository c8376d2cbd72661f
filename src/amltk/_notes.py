"""Messages about users' objects and exceptions, whose own methods may raise."""

from __future__ import annotations

import contextlib
from typing import Any


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


def field(error: BaseException, name: str) -> Any:
    """A field that CPython keeps for every exception, such as `__cause__`, whatever the exception's class defines."""
    return vars(BaseException)[name].__get__(error)


def set_field(error: BaseException, name: str, value: Any) -> None:
    """Set such a field, even if the class forbids setting attributes, as a frozen dataclass does."""
    vars(BaseException)[name].__set__(error, value)
