"""Checks of arguments: each returns the value, or raises an error that names argument, value and what is allowed."""

from __future__ import annotations

import functools
import math
import operator
from inspect import CO_VARKEYWORDS
from numbers import Real
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")
T = TypeVar("T")


def as_whole(value: Any) -> int | None:
    """A whole number of whatever type, numpy's for instance, as an int; None for anything else, also for a bool."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return None
    try:
        return operator.index(value)
    except TypeError:  # an array that is no number, or numpy's bool
        return None


def as_real(value: object) -> float | None:
    """A number of whatever type as a float, infinite if it is too large; None for anything else, also for a bool."""
    if isinstance(value, float):
        return float(value)
    if (number := as_whole(value)) is None and (isinstance(value, bool) or not isinstance(value, Real)):
        return None
    try:
        return float(value if number is None else number)  # type: ignore[arg-type]
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def check_bool(name: str, value: object) -> bool:
    """Return `value` if it is True or False.

    Raises:
        TypeError: It is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: must be True or False")
    return value


def check_count(name: str, value: object, *, least: int = 1, or_none: str = "") -> int:
    """Return `value` as an int if it is a whole number of at least `least`, of whatever type.

    Args:
        name: Of the argument.
        value: Its value.
        least: The smallest number that is allowed.
        or_none: What else the message says to be allowed.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is too small.
    """
    number = as_whole(value)
    if number is None:
        kind = "" if value is None else f", not {type(value).__name__}"
        raise TypeError(f"{name}={value!r}: must be a whole number, at least {least}{or_none}{kind}")
    if number < least:
        raise ValueError(f"{name}={value!r}: must be at least {least}{or_none}")
    return number


def check_optional_count(name: str, value: object) -> int | None:
    """Return `value` if it is None or a whole number of at least 1; raise as `check_count` does."""
    return None if value is None else check_count(name, value, or_none=", or None")


def check_between(name: str, value: object, least: float, most: float = math.inf) -> float:
    """Return `value` as a float if it is a finite number in a range, of whatever type.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of the range, infinite or NaN.
    """
    number = as_real(value)
    if number is None:
        raise TypeError(f"{name}={value!r}: must be a number, not {type(value).__name__}")
    if not least <= number <= most or number == math.inf:
        allowed = f"at least {least:g} and finite" if most == math.inf else f"from {least:g} to {most:g}"
        raise ValueError(f"{name}={value!r}: must be {allowed}")
    return number


def explains_options(**instead: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function whose users know such functions of other tools: options that it has not are explained.

    Args:
        **instead: By the name of an option of another tool: what to write. A name alone takes the value over. A
            function that passes options on, as `**options`, refuses these only.
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
            return f"leave out {words}, which is as many as there are CPUs then"  # as joblib and scikit-learn have it
        return f"write {words}={value!r}"
    from difflib import get_close_matches  # it takes a while to import

    if close := get_close_matches(name, known, n=1):
        return f"write {close[0]}={value!r}"
    return f"it has {', '.join(known)}"
