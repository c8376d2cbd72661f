"""Functions that a signal handler must not interrupt by an exception: what they change would be left half-changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

F = TypeVar("F", bound="Callable[..., Any]")

_shielded: set[CodeType] = set()
_user_code_begins: set[CodeType] = set()


def shielded(fn: F) -> F:
    """Decorate a function that callbacks call, such as `submit`. Costs nothing when it is called."""
    _shielded.add(fn.__code__)
    return fn


def runs_user_code(fn: F) -> F:
    """Decorate a function that calls callbacks: what they do may be interrupted, whoever has called this function."""
    _user_code_begins.add(fn.__code__)
    return fn


def is_shielded(frame: FrameType | None) -> bool:
    """Whether a signal came in the middle of a shielded function, and not of a callback.

    Args:
        frame: The frame that a signal handler is given.
    """
    while frame is not None:
        code = frame.f_code
        if code in _shielded:
            return True
        if code in _user_code_begins:
            return False
        frame = frame.f_back
    return False
