"""Looks for objects of some types in nested lists, tuples and dicts, and puts others in their place."""

from __future__ import annotations

from itertools import chain, count
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from collections.abc import Set as AbstractSet

C = TypeVar("C", tuple[Any, ...], dict[str, Any])

CONTAINERS: frozenset[type] = frozenset({list, tuple, dict})
"""What is looked into: these types exactly. Of dicts, the values."""

SHALLOW = 2
SMALL = 8
"""Containers that are nested no deeper, and have no more items on average, are not told apart: to look at one twice
takes less time than to remember that it was looked at, and a list of a million pairs is looked at quickly."""


def find(containers: Iterable[Any], wanted: AbstractSet[type]) -> list[Any]:
    """The objects of exactly these types in the containers, each once, those that are nested less deeply first.

    Each level of nesting takes one pass over its items, most of which is done in C: all in all it takes about as long
    as to pickle them.
    """
    found: dict[int, Any] = {}
    seen: set[int] = set()
    level = list(containers)
    for depth in count(1):
        kinds = set(map(type, _items(level)))
        if not kinds.isdisjoint(wanted):
            found.update((id(item), item) for item in _items(level) if type(item) in wanted)
        if kinds.isdisjoint(CONTAINERS):
            break
        inner = [item for item in _items(level) if type(item) in CONTAINERS]
        if depth <= SHALLOW and sum(map(len, inner)) <= SMALL * len(inner):
            level = inner
            continue
        by_id = {id(item): item for item in inner}
        level = [item for key, item in by_id.items() if key not in seen]
        seen.update(by_id)
    return list(found.values())


def replaced(root: C, wanted: AbstractSet[type], new: Callable[[Any], Any]) -> C:
    """A container with `new(object)` in place of each object of these types.

    Containers that hold any of them, at whatever depth, are copied; all others are the same as before.

    Raises:
        ValueError: A container holds both itself and such an object.
        BaseException: What `new` raises.
    """
    ready: dict[int, Any] = {}  # what takes the place of each container, by its id
    begun: set[int] = set()
    in_itself: set[int] = set()
    stack: list[Any] = [root]
    while stack:
        container = stack[-1]
        key = id(container)
        if key in ready:
            stack.pop()
        elif key in begun:
            stack.pop()
            ready[key] = _with_new_items(container, wanted, new, ready)
            if key in in_itself and ready[key] is not container:
                kind = type(container).__name__
                raise ValueError(f"a {kind} contains both itself and a future: pass one that does not")
        else:
            begun.add(key)
            inner = [item for item in _items([container]) if type(item) in CONTAINERS and id(item) not in ready]
            in_itself.update(id(item) for item in inner if id(item) in begun)
            stack.extend(item for item in reversed(inner) if id(item) not in begun)
    result: C = ready[id(root)]
    return result


def _items(containers: list[Any]) -> Iterator[Any]:
    """The items of these containers, those of dicts last."""
    kinds = set(map(type, containers))
    if dict not in kinds:
        return chain.from_iterable(containers)
    dicts = containers if len(kinds) == 1 else [item for item in containers if type(item) is dict]
    others = () if len(kinds) == 1 else [item for item in containers if type(item) is not dict]
    return chain(chain.from_iterable(others), chain.from_iterable(map(dict.values, dicts)))


def _with_new_items(container: Any, wanted: AbstractSet[type], new: Callable[[Any], Any], ready: dict[int, Any]) -> Any:
    """A copy, or the container itself if none of its items is replaced."""

    def item_for(item: Any) -> Any:
        kind = type(item)
        if kind in wanted:
            return new(item)
        return ready.get(id(item), item) if kind in CONTAINERS else item

    if type(container) is dict:
        by_key = {key: item_for(item) for key, item in container.items()}
        return by_key if any(by_key[key] is not item for key, item in container.items()) else container
    items = [item_for(item) for item in container]
    if all(new_item is item for new_item, item in zip(items, container, strict=True)):
        return container
    return items if type(container) is list else tuple(items)
