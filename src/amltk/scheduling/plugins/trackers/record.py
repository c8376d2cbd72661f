"""The data of a call for experiment trackers: plain names, numbers and texts, taken at once and kept."""

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

MAX_TEXT_LENGTH = 500
"""How many characters of a text are kept; the limit of the strictest tracker."""

_MAX_DEPTH = 3
"""How many levels of nested mappings are expanded."""

_WORD = 1 << 63

_short = reprlib.Repr()
_short.maxstring = _short.maxother = MAX_TEXT_LENGTH
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxdict = 20


@dataclass(frozen=True)
class Record:
    """The record of a call that has ended.

    Attributes:
        task: The name of its task.
        parameters: Its arguments by name.
        submitted: When it was submitted, in seconds since the epoch, like all times here.
        began: When a worker began it; None if it never began, or its executor does not report it.
        ended: When it ended.
        outcome: How it ended.
        metrics: Its result, if that is a number or a mapping of numbers.
        exception: The type and message of its exception, or None.
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
        """The total time of the call and, if known, how long it waited and how long it was computed."""
        found = {"seconds.total": self.ended - self.submitted}
        if self.began is not None:
            found["seconds.waited"] = self.began - self.submitted
            found["seconds.computed"] = self.ended - self.began
        return found


def parameters(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Scalar]:
    """The arguments of a call by name, defaults included.

    A mapping gives one parameter per entry, with names such as `config.rate`. Anything but a number, text, bool or None
    is given as its shortened `repr`.
    """
    return {
        key: value for name, given in _by_name(function, args, kwargs) for key, value in _flat(name, given, _MAX_DEPTH)
    }


def _by_name(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[str, object]]:
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):  # there is no signature, or the call does not match it
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
    except Exception:  # noqa: BLE001 - the user's own mapping failed; its repr is used instead
        entries = []
    if not entries:
        yield name, scalar(value)
    for key, entry in entries:
        yield from _flat(f"{name}.{key if isinstance(key, str) else text(key)}", entry, depth - 1)


def scalar(value: object) -> Scalar:
    """A value as trackers accept it: numbers, bools and None as they are, everything else as text of bounded length."""
    try:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, numbers.Integral) and -_WORD <= int(value) < _WORD:  # also numpy's
            return int(value)
        if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
            return float(value)
    except Exception:  # noqa: BLE001 - the user's own number failed
        return text(value)
    return value[:MAX_TEXT_LENGTH] if type(value) is str else text(value)


def text(value: object) -> str:
    """The shortened `repr` of anything, even if that raises."""
    try:
        return _short.repr(value)[:MAX_TEXT_LENGTH]
    except Exception:  # noqa: BLE001 - the user's own __repr__ failed
        return safe_repr(value)[:MAX_TEXT_LENGTH]


def metrics(result: object) -> dict[str, float]:
    """The numbers of a result: the result itself as `result`, or the numeric entries of a mapping."""
    try:
        entries = list(result.items()) if isinstance(result, Mapping) else [("result", result)]
    except Exception:  # noqa: BLE001 - the user's own mapping failed
        return {}
    named = ((key if isinstance(key, str) else text(key), _number(value)) for key, value in entries)
    return {name: number for name, number in named if number is not None}


def _number(value: Any) -> float | None:
    """The value as a float, also if it only behaves like a number, such as an array of one element."""
    if not hasattr(type(value), "__float__") and not hasattr(type(value), "__index__"):
        return None
    try:
        return float(value)
    except Exception:  # noqa: BLE001 - then it is not a number
        return None


def exception_text(error: BaseException) -> str:
    """The type and message of an exception, even if its `str()` raises."""
    try:
        message = str(error)
    except Exception as failure:  # noqa: BLE001 - the user's own __str__ failed; reported instead
        message = f"its str() raises {type(failure).__name__}"
    return f"{type(error).__qualname__}: {message}"[:MAX_TEXT_LENGTH]
