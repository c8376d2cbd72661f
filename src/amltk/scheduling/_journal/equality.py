"""Whether what is submitted now equals what is recorded, and where the two differ."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk._labels import value_in_short
from amltk.scheduling.executors.remote.plain import dumps_by_name

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_DEPTH = 100
"""Objects that are nested deeper than this, or contain themselves, are compared by their pickles."""

_PLAIN = (str, bytes, int, float, complex, type(None), type, FunctionType)
"""Have no parts to compare."""


class Difference(NamedTuple):
    """The first difference of two values.

    Attributes:
        where: Where it is, as one would write it in Python: `args[0].weights`.
        recorded: What is recorded there.
        given: What is there now.
    """

    where: str
    recorded: Any
    given: Any

    def __str__(self) -> str:
        recorded, given = value_in_short(self.recorded), value_in_short(self.given)
        kinds = type(self.recorded).__qualname__, type(self.given).__qualname__
        if kinds[0] != kinds[1]:
            recorded, given = f"{recorded} ({kinds[0]})", f"{given} ({kinds[1]})"
        elif recorded == given:
            given = f"another {kinds[0]}"
        return f"{self.where} was {recorded}, and is now {given}"


def are_same(recorded: Any, given: Any) -> bool:
    """Whether two values are equal, or have equal pickles; within containers and objects, whether all parts are."""
    return difference(recorded, given) is None


def difference_of_arguments(recorded: Any, given: Any) -> Difference | None:
    """The first difference of the arguments of two calls, each as `(args, kwargs)`; None if they are the same."""
    return difference(recorded[0], given[0], "args") or difference(recorded[1], given[1], "kwargs")


def difference(recorded: Any, given: Any, where: str = "", depth: int = 0) -> Difference | None:
    """The first difference of two values; None if they are the same.

    Args:
        recorded: One value.
        given: The other one.
        where: Where they are.
        depth: In how many others they are.
    """
    if recorded is given:
        return None
    different = Difference(where, recorded, given)
    kind = type(recorded)
    if kind is not type(given):
        return different
    if depth > MAX_DEPTH:
        return None if _have_equal_pickles(recorded, given) else different
    if isinstance(recorded, list | tuple):
        return different if len(recorded) != len(given) else _first_of_items(different, recorded, given, depth)
    if isinstance(recorded, dict):
        keys = list(recorded), list(given)
        if keys[0] != keys[1] and (kind is not dict or recorded.keys() != given.keys()):
            return different
        pairs = ((f"{where}[{key!r}]", recorded[key], given[key]) for key in recorded)
        return _first(pairs, depth)
    if _are_equal(recorded, given) or _have_equal_pickles(recorded, given):
        return None
    if isinstance(recorded, _PLAIN) or getattr(recorded, "shape", None) is not None:
        return different
    return _difference_of_parts(different, depth)


def _first(pairs: Iterable[tuple[str, Any, Any]], depth: int) -> Difference | None:
    differences = (difference(recorded, given, where, depth + 1) for where, recorded, given in pairs)
    return next((found for found in differences if found is not None), None)


def _first_of_items(whole: Difference, recorded: Iterable[Any], given: Iterable[Any], depth: int) -> Difference | None:
    pairs = ((f"{whole.where}[{n}]", one, other) for n, (one, other) in enumerate(zip(recorded, given, strict=True)))
    return _first(pairs, depth)


def _are_equal(recorded: Any, given: Any) -> bool:
    try:
        shape = getattr(recorded, "shape", None)
        if shape is None:
            return bool(recorded == given)
        if shape != given.shape or getattr(recorded, "dtype", None) != getattr(given, "dtype", None):
            return False
        if callable(equals := getattr(recorded, "equals", None)):  # data frames
            return bool(equals(given))
        both_missing = (recorded != recorded) & (given != given)  # noqa: PLR0124 - NaN
        return bool(((recorded == given) | both_missing).all())
    except Exception:  # noqa: BLE001 - they cannot be compared
        return False


def _have_equal_pickles(recorded: Any, given: Any) -> bool:
    try:
        return dumps_by_name(recorded) == dumps_by_name(given)
    except Exception:  # noqa: BLE001 - they have none
        return False


def _difference_of_parts(whole: Difference, depth: int) -> Difference | None:
    """Compare what the pickles of two objects are made of: pickles of equal sets may differ."""
    try:
        recorded, given = (_parts(value) for value in whole[1:])
    except Exception:  # noqa: BLE001 - they have none
        return whole
    if _first_of_items(whole, recorded[:2], given[:2], depth) is not None:
        return whole
    return _first(_pairs_of_state(whole.where, recorded[2:], given[2:]), depth)


def _parts(value: Any) -> tuple[Any, ...]:
    """What creates the object, or its name; with which arguments; its state; and what is in it."""
    parts: Any = value.__reduce_ex__(5)
    if not isinstance(parts, tuple):
        return parts, None, None, None, None
    padded: tuple[Any, ...] = (*parts, None, None, None)
    create, args, state, items, pairs = padded[:5]
    return create, args, state, None if items is None else list(items), None if pairs is None else list(pairs)


def _pairs_of_state(where: str, recorded: Iterable[Any], given: Iterable[Any]) -> Iterable[tuple[str, Any, Any]]:
    for one, other in zip(recorded, given, strict=True):
        if type(one) is dict and type(other) is dict and one.keys() == other.keys():
            yield from ((f"{where}.{name}", one[name], other[name]) for name in one)
        else:
            yield where, one, other
