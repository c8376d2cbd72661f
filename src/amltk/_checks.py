"""Checks of arguments: each returns the value, or raises an error with the argument, the value and what is allowed."""

from __future__ import annotations

import functools
import math
import operator
import re
from inspect import CO_VARKEYWORDS
from numbers import Real
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

P = ParamSpec("P")
T = TypeVar("T")

SECONDS: dict[str, float] = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
"""How many seconds each unit of time is."""

BYTES: dict[str, float] = {
    "B": 1.0,
    **{f"{prefix}B": 1000.0**n for n, prefix in enumerate("kMGT", start=1)},
    **{f"{prefix}iB": 1024.0**n for n, prefix in enumerate("KMGT", start=1)},
}
"""How many bytes each unit of memory is."""

_QUANTITY = re.compile(r"\s*((?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z]*)\s*", re.ASCII | re.IGNORECASE)

_DURATION = f"a number of seconds, a text with a unit ({', '.join(SECONDS)}) or a timedelta"
_MEMORY = f"a number of bytes, or a text with a unit ({', '.join(BYTES)})"


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
        name: The argument's name.
        value: Its value.
        least: The smallest allowed number.
        or_none: Further allowed values, for the message.

    Raises:
        TypeError: It is not a whole number.
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
        TypeError: It is not a number.
        ValueError: It is out of range, infinite or NaN.
    """
    number = as_real(value)
    if number is None:
        raise TypeError(f"{name}={value!r}: must be a number, not {type(value).__name__}")
    if not least <= number <= most or number == math.inf:
        allowed = f"at least {least:g} and finite" if most == math.inf else f"from {least:g} to {most:g}"
        raise ValueError(f"{name}={value!r}: must be {allowed}")
    return number


def check_seconds(name: str, value: object, *, or_none: str = "", above_zero: bool = False) -> float:
    """A duration in seconds.

    Args:
        name: Of the argument, for messages.
        value: A number of seconds, a text such as `"1.5 h"`, or a `datetime.timedelta`.
        or_none: What the message says about None, where that is allowed.
        above_zero: Whether it must be more than 0.

    Raises:
        TypeError: It is none of these.
        ValueError: It is negative, not finite, or a text without a number or with an unknown unit.
    """
    seconds = _timedelta_seconds(value)
    return _checked(
        name, value, parse_amount(value, SECONDS) if seconds is None else seconds, _DURATION + or_none, above_zero
    )


def check_optional_seconds(name: str, value: object, *, above_zero: bool = False) -> float | None:
    """A duration in seconds, or None for no limit; raises as `check_seconds` does."""
    return (
        None if value is None else check_seconds(name, value, or_none=", or None for no limit", above_zero=above_zero)
    )


def check_optional_bytes(name: str, value: object) -> int | None:
    """An amount of memory above 0 in bytes, or None for no limit; the same for bytes, and texts such as `"2 GB"`."""
    if value is None:
        return None
    return math.ceil(
        _checked(name, value, parse_amount(value, BYTES), f"{_MEMORY}, or None for no limit", above_zero=True)
    )


def check_bytes(name: str, value: object) -> int:
    """An amount of memory in bytes, 0 or more: a number, or a text such as `"2 GB"`."""
    return math.ceil(_checked(name, value, parse_amount(value, BYTES), _MEMORY, above_zero=False))


def _checked(name: str, value: object, number: float | None, kinds: str, above_zero: bool) -> float:
    allowed = f"must be finite and {'above 0' if above_zero else '0 or more'}: {kinds}"
    if number is None:
        raise TypeError(f"{name}={value!r}: {allowed}; not {type(value).__name__}")
    if not math.isfinite(number) or number < 0 or (above_zero and number == 0):
        raise ValueError(f"{name}={value!r}: {allowed}")
    return number


def one_given(**given: Any) -> Any:
    """The value of the only one of these options that is not None; None if all are.

    Raises:
        ValueError: Several are given.
    """
    values = {name: value for name, value in given.items() if value is not None}
    if len(values) > 1:
        said = " and ".join(f"{name}={value!r}" for name, value in values.items())
        raise ValueError(f"{said}: give one of them")
    return next(iter(values.values()), None)


def parse_amount(value: object, units: Mapping[str, float]) -> float | None:
    """A number, or what a text says; NaN if it says nothing, None if it is neither."""
    if not isinstance(value, str):
        return as_real(value)
    match = _QUANTITY.fullmatch(value)
    sizes = {unit.lower(): size for unit, size in units.items()} | {"": 1.0}
    size = None if match is None else sizes.get(match[2].lower())
    return math.nan if match is None or size is None else float(match[1]) * size


def _timedelta_seconds(value: Any) -> float | None:
    """The seconds of a timedelta of the standard library, pandas or numpy; None for anything else."""
    if isinstance(value, int | float | str):
        return None
    from datetime import timedelta  # imported by those alone who may have one

    if isinstance(value, timedelta):
        return value.total_seconds()
    if getattr(getattr(value, "dtype", None), "kind", None) == "m" and getattr(value, "ndim", None) == 0:
        nanoseconds = value.astype("timedelta64[ns]").astype("int64")
        return float(nanoseconds) / 1e9
    return None


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
