"""Durations and amounts of memory, given as numbers or as people write them: `90`, `"1.5 h"`, `"2 GB"`."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from amltk._checks import as_real

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        name, value, _amount(value, SECONDS) if seconds is None else seconds, _DURATION + or_none, above_zero
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
    return math.ceil(_checked(name, value, _amount(value, BYTES), f"{_MEMORY}, or None for no limit", above_zero=True))


def _checked(name: str, value: object, number: float | None, kinds: str, above_zero: bool) -> float:
    allowed = f"must be finite and {'above 0' if above_zero else '0 or more'}: {kinds}"
    if number is None:
        raise TypeError(f"{name}={value!r}: {allowed}; not {type(value).__name__}")
    if not math.isfinite(number) or number < 0 or (above_zero and number == 0):
        raise ValueError(f"{name}={value!r}: {allowed}")
    return number


def _amount(value: object, units: Mapping[str, float]) -> float | None:
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
