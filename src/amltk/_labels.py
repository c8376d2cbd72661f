"""Labels of calls in displays and messages: the function and its arguments, short enough for one line."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from amltk._notes import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LONGEST = 100
"""The maximum length of a label, in characters."""

LONGEST_VALUE = 32
"""The maximum length of one argument, in characters."""

LONGEST_FLOAT = 10
"""The maximum length of a float that is shown exactly, in characters."""

MOST_ITEMS = 4
"""How many items of a container are shown at most."""

MOST_BITS = 128
"""The largest integer that is written out, in bits; others may have millions of digits, which Python refuses to
write."""

DEEPEST = 2
"""How many nested containers are shown at most."""

_FUTURES = "amltk.scheduling.future"
"""The module of futures, a layer above."""

_BRACKETS: dict[type, tuple[str, str]] = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), dict: ("{", "}")}


def call_label(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """A call as written in code, shortened: `train('mnist', lr=0.1, depth=3)`.

    Large values are shown by their type and size. No value can make it fail: one whose repr raises is shown by its
    type.

    Args:
        name: The name of the function.
        args: Its arguments.
        kwargs: Its keyword arguments.

    Returns:
        One line of printable characters, at most `LONGEST`.
    """
    given = chain((value_in_short(arg) for arg in args), (f"{key}={value_in_short(kwargs[key])}" for key in kwargs))
    name = _printable(name, LONGEST // 2)
    return f"{name}({_joined(given, LONGEST - len(name) - 2)})"


def arguments_in_short(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The arguments of a call in brackets, as in its label."""
    if not kwargs and len(args) == 1:  # there may be millions of these
        value = args[0]
        kind = type(value)
        if (kind is int or kind is float) and len(text := repr(value)) <= LONGEST_FLOAT:
            return f"({text})"
    return call_label("", args, kwargs)


def value_in_short(value: object) -> str:
    """A value in at most `LONGEST_VALUE` printable characters on one line."""
    try:
        text = _in_short(value, 0)
    except Exception:  # noqa: BLE001 - from an object that cannot even be inspected
        text = f"<{type(value).__name__}>"
    return _printable(text, LONGEST_VALUE)


def _in_short(value: Any, depth: int) -> str:
    kind = type(value)
    if kind in _BRACKETS:
        return _container(value, depth)
    if isinstance(value, str | bytes | bytearray):
        return _text(value)
    if isinstance(value, float):
        exact = float.__repr__(value)  # also for NumPy's, whose own repr names the type
        return exact if len(exact) <= LONGEST_FLOAT else f"{value:.6g}"
    if kind is int and value.bit_length() > MOST_BITS:
        return f"<int of {value.bit_length():,} bits>"
    if isinstance(shape := getattr(value, "shape", None), tuple) and not isinstance(value, type):
        return _array(value, shape)
    if kind.__module__ == _FUTURES:
        return str(value.in_short())  # its repr has a label in it, with its own arguments
    if isinstance(name := getattr(value, "__qualname__", None), str):
        return name.rpartition("<locals>.")[2]  # a function or a class
    if getattr(kind, "__repr__", None) is object.__repr__:
        return f"<{kind.__name__}>"  # its memory address is of no use
    return safe_repr(value)


def _text(value: str | bytes | bytearray) -> str:
    """The beginning and the end of a text: long texts, such as paths, may differ at either end."""
    room = LONGEST_VALUE - 3
    if len(value) <= room:
        return repr(value)
    halves = value[: room // 2], value[-(room // 2) :]
    begin, end = (repr(str(half) if isinstance(half, str) else bytes(half)) for half in halves)
    return f"{begin[:-1]}…{end[end.index(end[-1]) + 1 :]}"


def _array(value: Any, shape: tuple[Any, ...]) -> str:
    """An array, a tensor or a table, shown by its size: its repr may take long and fill a screen."""
    if not shape:
        return str(value)  # a single number
    size = "x".join(str(length) for length in shape)
    dtype = getattr(value, "dtype", None)
    return f"{type(value).__name__}({size})" if dtype is None else f"{type(value).__name__}({size}, {dtype})"


def _container(value: Any, depth: int) -> str:
    begin, end = _BRACKETS[type(value)]
    if not value:
        return "set()" if type(value) is set else begin + end
    if depth == DEEPEST:
        return f"{begin}…{end}"
    items: Iterator[str]
    if type(value) is dict:
        items = (f"{_in_short(key, depth + 1)}: {_in_short(item, depth + 1)}" for key, item in value.items())
    else:
        items = (_in_short(item, depth + 1) for item in value)
    shown = list(islice(items, MOST_ITEMS))
    more = "…" if len(value) > len(shown) else ""
    comma = "," if type(value) is tuple and len(value) == 1 else ""
    return begin + ", ".join([*shown, *([more] if more else [])]) + comma + end


def _joined(parts: Iterator[str], room: int) -> str:
    """As many of the parts as fit; the rest are not even generated."""
    joined = ""
    for part in parts:
        longer = f"{joined}, {part}" if joined else part
        if len(longer) > room:
            return f"{joined[: room - 3]}, …" if joined else "…"
        joined = longer
    return joined


def _printable(text: str, longest: int) -> str:
    """The text on one line of at most `longest` characters, with control characters written as escape sequences."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else _escaped(c) for c in " ".join(text.split()))
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
