"""Seconds and bytes as numbers or as strings with units."""

from __future__ import annotations

import re

SECONDS: dict[str, float] = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
"""The seconds in each unit of time."""

BYTES: dict[str, float] = {
    "B": 1.0,
    **{f"{prefix}B": 1000.0**n for n, prefix in enumerate("kMGT", start=1)},
    **{f"{prefix}iB": 1024.0**n for n, prefix in enumerate("KMGT", start=1)},
}
"""The bytes in each unit of memory."""

_QUANTITY = re.compile(r"\s*([0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*")


def amount(name: str, value: object, units: dict[str, float]) -> float | None:
    """A number of seconds or bytes; None stays None.

    Args:
        name: The name of the argument, for messages.
        value: A number above 0, a string such as `"2 GB"` or `"1.5 h"`, or None.
        units: `SECONDS` or `BYTES`. Letter case does not matter.

    Raises:
        TypeError: It is neither a number nor a string.
        ValueError: It is not above 0, not finite, or not such a string.
    """
    if value is None:
        return None
    base = next(unit for unit, size in units.items() if size == 1.0)
    allowed = f"must be above 0, in {base}, or a string with a unit ({', '.join(units)}), or None for no limit"
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value)
        sizes = {unit.lower(): size for unit, size in units.items()}
        size = None if match is None else sizes.get((match[2] or base).lower())
        if match is None or size is None:
            raise ValueError(f"{name}={value!r}: {allowed}")
        number = float(match[1]) * size
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}={value!r}: {allowed}")
    else:
        number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError(f"{name}={value!r}: {allowed}")
    return number
