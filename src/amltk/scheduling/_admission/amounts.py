"""Exact amounts of resources: whole multiples of a ten-thousandth, so that what is given back adds up."""

from __future__ import annotations

import math
from typing import Any

from amltk._checks import BYTES, as_real, as_whole, parse_amount

UNIT = 10_000
"""How many of these units a resource of 1 has."""

_ALLOWED = "must be a finite number, 0 or more, or a text with a unit of memory such as '60 GB'"


def units_of(name: str, value: Any) -> int:
    """An amount in units.

    Args:
        name: Whose amount it is, for messages.
        value: A number, or a text such as `"60 GB"`, which is a number of bytes.

    Raises:
        TypeError: It is neither.
        ValueError: It is negative or not finite, above 0 but less than a ten-thousandth, or a text without a unit of
            memory.
    """
    whole = as_whole(value)
    if whole is not None:
        if whole < 0:
            raise ValueError(f"{name}={value!r}: {_ALLOWED}")
        return whole * UNIT
    number = parse_amount(value, BYTES) if isinstance(value, str) else as_real(value)
    if number is None:
        raise TypeError(f"{name}={value!r}: {_ALLOWED}; not {type(value).__name__}")
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{name}={value!r}: {_ALLOWED}")
    units = round(number * UNIT)
    if number > 0 and not units:
        raise ValueError(f"{name}={value!r}: must be 0, or at least {1 / UNIT}")
    return units


def amount_of(units: int) -> int | float:
    """Units as the number that a user gave."""
    whole, rest = divmod(units, UNIT)
    return whole if not rest else units / UNIT


def amount_text(units: int) -> str:
    """Units as a short text: `0.5`, `16`, `60 GB`."""
    amount = amount_of(units)
    for unit, size in reversed(BYTES.items()):
        if not unit.endswith("iB") and size >= BYTES["MB"] and amount >= size:
            return f"{amount / size:.4g} {unit}"
    return f"{amount:g}" if isinstance(amount, float) else str(amount)
