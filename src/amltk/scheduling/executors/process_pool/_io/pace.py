"""Knows for which functions pickling has been quick: only that is done by a thread that must not be held up."""

from __future__ import annotations

from functools import partial
from typing import Any

QUICK_SECONDS = 0.02
"""How many seconds pickling may take to be quick."""

MAX_FUNCTIONS = 1000
"""How many functions are remembered at most."""


class Pace:
    """See the module's docstring. One is used for the arguments of calls, and another one for their outcomes.

    What has not been done before may import modules, and run any of the user's code: it counts as slow.
    """

    def __init__(self) -> None:
        self._quick: set[object] = set()

    def is_quick(self, fn: Any) -> bool:
        """Whether it has been quick for this function."""
        try:
            return fn.__code__ in self._quick  # of functions and methods; quicker than `_key`
        except AttributeError:
            return _key(fn) in self._quick

    def note(self, fn: Any, seconds: float) -> None:
        """Note how long it took for one call."""
        if seconds >= QUICK_SECONDS:
            self._quick.discard(_key(fn))
        elif len(self._quick) < MAX_FUNCTIONS:
            self._quick.add(_key(fn))
        else:
            self._quick = {_key(fn)}

    def forget(self) -> None:
        """Have every function measured again, since one of those that were quick is not any more."""
        self._quick = set()


def _key(fn: Any) -> object:
    """What stays the same when a program makes a function again, such as a lambda in a loop. Keeps no values alive."""
    while isinstance(fn, partial):
        fn = fn.func
    fn = getattr(fn, "__func__", fn)  # of a method
    code = getattr(fn, "__code__", None)
    if code is not None:
        return code
    kind = fn if isinstance(fn, type) else type(fn)
    return kind.__module__, kind.__qualname__, getattr(fn, "__name__", None)
