"""What experiment trackers are told of a call: plain names, numbers and texts, taken at once and kept."""

from __future__ import annotations

import inspect
import numbers
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from amltk._notes import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Scalar = bool | int | float | str | None

TEXT_LENGTH = 500
"""Characters of a text that are kept; what the strictest tracker takes."""

_DEPTH = 3
"""How deep mappings are looked into."""

_WORD = 1 << 63

_short = reprlib.Repr()
_short.maxstring = _short.maxother = TEXT_LENGTH
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxdict = 20


@dataclass(frozen=True)
class Record:
    """A call that has ended.

    Attributes:
        task: The name of its task.
        parameters: Its arguments by name.
        submitted: When it was submitted, in seconds since the epoch, as the other times.
        began: When a worker began it; None if it never began, or its executor does not tell.
        ended: When it ended.
        outcome: How it ended.
        metrics: Its result, if that is a number or a mapping of numbers.
        exception: Type and text of what it has raised, or None.
    """

    task: str
    parameters: dict[str, Scalar]
    submitted: float
    began: float | None
    ended: float
    outcome: Literal["result", "exception", "cancelled"]
    metrics: dict[str, float] = field(default_factory=dict)
    exception: str | None = None

    @property
    def seconds(self) -> dict[str, float]:
        """How long it took in all and, where that is known, how long it waited and was computed."""
        found = {"seconds.total": self.ended - self.submitted}
        if self.began is not None:
            found["seconds.waited"] = self.began - self.submitted
            found["seconds.computed"] = self.ended - self.began
        return found


def parameters(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Scalar]:
    """The arguments of a call by name, defaults included.

    A mapping gives a parameter for each entry, named `config.rate`. Whatever is no number, text, bool or None is told
    by its shortened `repr`.
    """
    return {key: value for name, given in _by_name(function, args, kwargs) for key, value in _flat(name, given, _DEPTH)}


def _by_name(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[str, object]]:
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):  # it has no signature, or another one than the call
        yield from _numbered("args", args)
        yield from kwargs.items()
        return
    bound.apply_defaults()
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            yield from _numbered(name, value)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            yield from value.items()
        else:
            yield name, value


def _numbered(name: str, values: tuple[object, ...]) -> Iterator[tuple[str, object]]:
    for n, value in enumerate(values):
        yield f"{name}.{n}", value


def _flat(name: str, value: object, depth: int) -> Iterator[tuple[str, Scalar]]:
    try:
        entries = list(value.items()) if depth and isinstance(value, Mapping) else []
    except Exception:  # noqa: BLE001 - of the user's own mapping; its repr is told instead
        entries = []
    if not entries:
        yield name, scalar(value)
    for key, entry in entries:
        yield from _flat(f"{name}.{key if isinstance(key, str) else text(key)}", entry, depth - 1)


def scalar(value: object) -> Scalar:
    """A value as trackers take it: a number, a bool or None as it is, everything else as a text of bounded length."""
    try:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, numbers.Integral) and -_WORD <= int(value) < _WORD:  # numpy's as well
            return int(value)
        if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
            return float(value)
    except Exception:  # noqa: BLE001 - of the user's own number
        return text(value)
    return value[:TEXT_LENGTH] if type(value) is str else text(value)


def text(value: object) -> str:
    """The `repr` of anything, short, also where that raises."""
    try:
        return _short.repr(value)[:TEXT_LENGTH]
    except Exception:  # noqa: BLE001 - of the user's own __repr__
        return safe_repr(value)[:TEXT_LENGTH]


def metrics(result: object) -> dict[str, float]:
    """The numbers of a result: itself as `result`, or those entries of a mapping that are numbers."""
    try:
        entries = list(result.items()) if isinstance(result, Mapping) else [("result", result)]
    except Exception:  # noqa: BLE001 - of the user's own mapping
        return {}
    named = ((key if isinstance(key, str) else text(key), _number(value)) for key, value in entries)
    return {name: number for name, number in named if number is not None}


def _number(value: Any) -> float | None:
    """Also of what only behaves like a number, such as an array of one element."""
    if not hasattr(type(value), "__float__") and not hasattr(type(value), "__index__"):
        return None
    try:
        return float(value)
    except Exception:  # noqa: BLE001 - it is no number then
        return None


def exception_text(error: BaseException) -> str:
    """Type and text of an exception, also where the latter raises."""
    try:
        message = str(error)
    except Exception as failure:  # noqa: BLE001 - of the user's own __str__; told in its place
        message = f"whose text raises {type(failure).__name__}"
    return f"{type(error).__qualname__}: {message}"[:TEXT_LENGTH]
