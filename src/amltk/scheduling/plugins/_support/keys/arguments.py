"""The keys of calls: a function's name, and the arguments as the function receives them."""

from __future__ import annotations

import inspect
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from amltk.scheduling._nested import find
from amltk.scheduling.events import callback_name
from amltk.scheduling.future import FUTURES
from amltk.scheduling.plugins._support.keys.canonical import UnkeyedError, combine, digest
from amltk.scheduling.plugins._support.keys.names import module_name
from amltk.scheduling.plugins._support.keys.source import code_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from amltk.scheduling.call import Call

DEFAULT_IGNORE = ("device",)
"""Parameters that say where something is computed. A function need not have them."""


class FunctionKeys:
    """Gives the keys of the calls of one function: equal ones for equal arguments, however they are passed.

    Args:
        function: The function; a `functools.partial` counts as the function with these arguments.
        ignore: The names of parameters that do not matter.
        key: Called with the arguments of a call; the key is made of what it returns. None for the arguments themselves.
        owner: The name of the plugin, for messages.

    Attributes:
        name: What the function is recognised by.
    """

    def __init__(
        self, function: Callable[..., Any], ignore: Collection[str], key: Callable[..., Any] | None, owner: str
    ) -> None:
        self._owner = owner
        self._key = key
        self._ignore = frozenset(ignore)
        self._given = _given_by_partials(function)
        self._function = plain = _without_partials(function)
        self._label = callback_name(plain)
        self._signature = _signature(plain)
        self.name: str = f"{module_name(plain.__module__)}.{self._label}"
        self._identity = [self.name.encode()]
        if "<lambda>" in self._label:  # which says nothing
            self._identity += code_parts(plain.__code__)

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The key of a call.

        Raises:
            TypeError: The function does not take these arguments, or one of them cannot be part of a key.
        """
        if self._key is not None:
            remedy = "have it return numbers, texts, lists and the like"
            parts = [self._digest(self._key(*args, **kwargs), "what key= returned", remedy)]
        else:
            named = [*self._captured(), *self._arguments(args, kwargs)]
            parts = [name.encode() + b"=" + self._digest(value, name, self._remedy(name)) for name, value in named]
        return combine("call", [*self._identity, *parts])

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """The arguments as the function receives them, in the order of its parameters."""
        bound_args, bound_kwargs = self._given
        bound = self._signature.bind(*bound_args, *args, **(bound_kwargs | kwargs))
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            if self._signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                yield from sorted((n, v) for n, v in value.items() if n not in self._ignore)
            elif name not in self._ignore:
                yield name, value

    def _captured(self) -> Iterator[tuple[str, Any]]:
        """What the function has beside its arguments: its object, and variables of the functions around it."""
        function = self._function
        owner = getattr(function, "__self__", None)
        if not (owner is None or isinstance(owner, ModuleType) or "self" in self._ignore):
            yield "self", owner
        function = getattr(function, "__func__", function)
        closure = getattr(function, "__closure__", None)
        if closure is None:
            return
        for name, cell in zip(function.__code__.co_freevars, closure, strict=True):
            if name not in self._ignore and name != "__class__" and cell.cell_contents is not function:
                yield name, cell.cell_contents

    def _digest(self, value: Any, name: str, remedy: str) -> bytes:
        try:
            return digest(value)
        except UnkeyedError as error:
            raise TypeError(
                f"{self._owner} cannot tell whether two calls of {self._label} are equal: {name} is, or contains, "
                f"{error}; {remedy}"
            ) from None

    def _remedy(self, name: str) -> str:
        return (
            f"pass {self._owner}(..., key=...) a function that takes the arguments and returns what stands for them, "
            f"or ignore=({name!r},) if it does not matter"
        )


def keys_of(
    function: Callable[..., Any], ignore: Collection[str], key: Callable[..., Any] | None, owner: str
) -> FunctionKeys:
    """The keys of a task's function; arguments as for `FunctionKeys`.

    Raises:
        ValueError: The function has no parameter of a name in `ignore`.
    """
    check_parameters(function, [name for name in ignore if name not in DEFAULT_IGNORE])
    return FunctionKeys(function, ignore, key, owner)


def with_arguments(call: Call, fn: Callable[[tuple[Any, ...], dict[str, Any]], object]) -> None:
    """Call `fn(args, kwargs)` with the arguments of a call: at once, or when results are in the places of futures."""
    if find(call.given, FUTURES):
        call.on_results(fn)
    else:
        fn(*call.given)


def check_key(key: Any) -> Callable[..., Any] | None:
    """Check `key`: a function, or None.

    Raises:
        TypeError: It is something else.
    """
    if key is not None and not callable(key):
        raise TypeError(f"key={key!r}: must be a function that takes the arguments of a call, or None")
    checked: Callable[..., Any] | None = key
    return checked


def check_ignore(ignore: Any) -> tuple[str, ...]:
    """Check `ignore`: names of parameters.

    Raises:
        TypeError: It is something else.
    """
    names = () if isinstance(ignore, str | bytes) else tuple(ignore)
    if isinstance(ignore, str | bytes) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"ignore={ignore!r}: must be a tuple of names of parameters, such as ('device',)")
    return names


def check_parameters(function: Callable[..., Any], ignore: Collection[str]) -> None:
    """Raise a `ValueError` if a name in `ignore` is neither a parameter nor a captured variable of the function."""
    plain = _without_partials(function)
    parameters = _signature(plain).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = ["self", *parameters, *getattr(getattr(plain, "__code__", None), "co_freevars", ())]
    unknown = [name for name in ignore if name not in known]
    if unknown:
        raise ValueError(f"ignore={tuple(ignore)!r}: {callback_name(function)} has no parameter {unknown[0]!r}")


def _signature(function: Any) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):  # of C, and does not tell: only what is given in the same way is equal
        return inspect.Signature(
            [
                inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
                inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
            ]
        )


def _without_partials(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    if not hasattr(function, "__qualname__"):  # an object that can be called
        return function.__call__
    return function


def _given_by_partials(function: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that partials give; nested ones are one."""
    return (function.args, function.keywords) if isinstance(function, partial) else ((), {})
