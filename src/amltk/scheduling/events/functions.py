"""Users' functions: what they are called in messages, which can be callbacks, and which an executor can compute."""

from __future__ import annotations

from functools import partial, update_wrapper
from inspect import CO_COROUTINE, isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from types import MethodType
from typing import TYPE_CHECKING, Any

from amltk._notes import safe_repr
from amltk.scheduling.events.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable


def check_computable(fn: object, name: str) -> None:
    """Raise a `TypeError` that names the argument `name`, unless an executor can compute `fn`."""
    code = getattr(fn, "__code__", None)
    if code is not None and not code.co_flags & CO_COROUTINE:
        return  # a plain function: the fast path, since this runs for every submission
    if not callable(fn):
        raise TypeError(f"{name}={fn!r}: must be callable")
    if iscoroutinefunction(fn) or iscoroutinefunction(type(fn).__call__):
        raise TypeError(
            f"{name}={callback_name(fn)}: must be a plain function, not an `async def`, which an executor cannot await;"
            " use it as a callback, or submit a function that calls asyncio.run() with it"
        )


def check_callback(callback: object, event: object) -> None:
    """Raise a `TypeError` unless `callback` can be called for an event, and that does something."""
    if not callable(callback):
        raise TypeError(f"callback={callback!r} for {event}: must be callable")
    if isgeneratorfunction(callback) or isasyncgenfunction(callback):
        raise TypeError(
            f"callback={callback_name(callback)} for {event}: must not have a `yield`, since a call would run nothing"
            " of it; write a plain function or an `async def`"
        )


def callback_name(callback: Callable[..., Any]) -> str:
    """A readable name of a function, for messages and displays."""
    if isinstance(bound := getattr(callback, "__self__", None), Subscription):
        return callback_name(bound.callback)  # a subscription with options is called in place of its callback
    while isinstance(callback, partial):
        callback = callback.func  # bound arguments may be long
    name = getattr(callback, "__qualname__", None) or getattr(callback, "__name__", None)
    if isinstance(callback, MethodType) and isinstance(name, str):  # after the class of the object, not that of a base
        bound = callback.__self__
        owner = bound if isinstance(bound, type) else type(bound)
        name = f"{owner.__qualname__}.{name.rpartition('.')[2]}"
    return name.rpartition("<locals>.")[2] if isinstance(name, str) else safe_repr(callback)


def take_names(wrapper: Any, function: Callable[..., Any]) -> str:
    """Give an object that is computed instead of a function the function's names. Returns its qualified name.

    What `functools.update_wrapper` copies besides may be what no executor can send: annotations, type parameters (since
    CPython 3.12), and the function that makes annotations (since 3.14).
    """
    update_wrapper(wrapper, function, assigned=("__module__", "__name__", "__doc__"), updated=())
    return callback_name(function)  # a partial has none
