"""What a worker knows of its parent's program. Pickles refer to these functions; in the parent they are not called."""

from __future__ import annotations

import sys
from typing import Any

_definitions: dict[int, Any] = {}
_versions: dict[str, int] = {}


def main_globals() -> dict[str, Any]:
    """The globals of this worker's `__main__`."""
    return sys.modules["__main__"].__dict__


def definition(number: int) -> Any:
    """What was defined under that number."""
    return _definitions[number]


def define(number: int, obj: Any, version: int) -> None:
    """Note a function or class; one that is a global of `__main__` is found there under its name from now on.

    Args:
        number: What calls name it by.
        obj: The function or class.
        version: How often the parent had set this global anew; 0 if it is none. A later version that is there stays.
    """
    _definitions[number] = obj
    if version and version >= _versions.get(obj.__qualname__, 0):
        _versions[obj.__qualname__] = version
        main_globals()[obj.__qualname__] = obj


def forget(number: int) -> None:
    """Let go of a definition."""
    _definitions.pop(number, None)


def look_up(module: Any, qualname: str) -> Any:
    """What a module has under that name; None if nothing."""
    found = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
        if found is None:
            return None
    return found


def set_function_state(setter: Any, versions: dict[str, int], function: Any, state: Any) -> None:
    """Set the state of a function that was pickled by value, but keep the globals of `__main__` that there are.

    An initializer may have set them, or an earlier call. Only what the parent has set anew since counts more.
    """
    attributes, slots = state
    if function.__globals__ is main_globals():
        used = slots["__globals__"]
        slots = {**slots, "__globals__": {name: used[name] for name in used if _is_news(name, versions)}}
    setter(function, (attributes, slots))


def _is_news(name: str, versions: dict[str, int]) -> bool:
    version = versions.get(name, 1)
    known = _versions.setdefault(name, version)
    _versions[name] = max(known, version)
    return version > known or name not in main_globals()
