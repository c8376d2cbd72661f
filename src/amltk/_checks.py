"""Checks of arguments: each returns the value, or raises an error with the argument, the value and what is allowed."""

from __future__ import annotations

import functools
import math
from inspect import CO_VARKEYWORDS
from numbers import Real
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")
T = TypeVar("T")


def check_bool(name: str, value: object) -> bool:
    """Return `value` if it is True or False.

    Raises:
        TypeError: It is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: must be True or False")
    return value


def check_count(name: str, value: object, *, least: int = 1, or_none: str = "") -> int:
    """Return `value` if it is a whole number and at least `least`.

    Args:
        name: The argument's name.
        value: Its value.
        least: The smallest allowed number.
        or_none: Further allowed values, for the message.

    Raises:
        TypeError: It is not a whole number.
        ValueError: It is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        kind = "" if value is None else f", not {type(value).__name__}"
        raise TypeError(f"{name}={value!r}: must be a whole number, at least {least}{or_none}{kind}")
    if value < least:
        raise ValueError(f"{name}={value!r}: must be at least {least}{or_none}")
    return value


def check_optional_count(name: str, value: object) -> int | None:
    """Return `value` if it is None or a whole number of at least 1; raise as `check_count` does."""
    return None if value is None else check_count(name, value, or_none=", or None")


def check_seconds(name: str, value: object) -> float:
    """Return `value` if it is a finite number of seconds that is not negative.

    Raises:
        TypeError: It is not a number.
        ValueError: It is negative, infinite or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r}: must be a number of seconds, not {type(value).__name__}")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{name}={value!r}: must be a finite number of seconds, 0 or more")
    return seconds


def check_between(name: str, value: object, least: float, most: float = math.inf) -> float:
    """Return `value` if it is a finite number in a range.

    Raises:
        TypeError: It is not a number.
        ValueError: It is out of range, infinite or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}={value!r}: must be a number, not {type(value).__name__}")
    if not least <= value <= most or value == math.inf:
        allowed = f"at least {least:g} and finite" if most == math.inf else f"from {least:g} to {most:g}"
        raise ValueError(f"{name}={value!r}: must be {allowed}")
    return float(value)


def explains_options(**instead: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function so that it explains unknown options, for users who know similar functions of other tools.

    **instead: For each option of another tool, what to write instead. A bare name takes the value over. A function that
        passes options on, as `**options`, refuses only these.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        code: Any = function.__code__
        known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        passes_on = bool(code.co_flags & CO_VARKEYWORDS)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            for name, value in kwargs.items():
                if name not in known and (name in instead or not passes_on):
                    remedy = _remedy(name, value, instead, [n for n in known if n not in {"self", "cls"}])
                    raise TypeError(f"{function.__name__}() has no option {name}: {remedy}")
            return function(*args, **kwargs)

        return call

    return decorate


def _remedy(name: str, value: object, instead: dict[str, str], known: Iterable[str]) -> str:
    if (words := instead.get(name)) is not None:
        if not words.isidentifier():
            return words
        if value == -1:
            return f"leave out {words}, which is as many as there are CPUs then"  # as in joblib, scikit-learn
        return f"write {words}={value!r}"
    from difflib import get_close_matches  # it takes a while to import

    if close := get_close_matches(name, known, n=1):
        return f"write {close[0]}={value!r}"
    return f"it has {', '.join(known)}"
