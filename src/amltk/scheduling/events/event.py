"""Events."""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    R = TypeVarWithDefault("R", default=Any)
else:
    R = TypeVar("R")


def canonical_name(name: str) -> str:
    """The canonical spelling of an event's name: `"on_future_result"` and `"@future-result"` give `"future-result"`."""
    return name.strip().lower().removeprefix("@").replace("_", "-").removeprefix("on-")


class Event(Generic[P, R]):
    """Something that can happen, typed by the arguments of its callbacks.

    The callbacks of `Event[[int]]` take one integer; a second parameter, as in `Event[[int], str]`, is what they
    return. Two events with the same name are equal.

    Args:
        name: The name; accepted with or without a leading `@` or `on`, with `-` or `_`.

    Raises:
        ValueError: The name is empty.
    """

    __slots__ = ("_hash", "name")

    def __init__(self, name: str) -> None:
        self.name: str = canonical_name(name)
        if not self.name:
            raise ValueError(f"name={name!r}: an event needs a name such as 'trial-pruned'")
        self._hash = hash(self.name)

    if not TYPE_CHECKING:
        # One parameter or two: at run time TypeVar has defaults only since CPython 3.13.
        __class_getitem__ = classmethod(GenericAlias)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self.name == other.name

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return f"@{self.name}"

    def __repr__(self) -> str:
        return f"Event({self.name!r})"
