"""A digest of a value that is the same for equal values, in every process and on every machine.

The digest of a container is that of its kind and of the digests of its parts, so that nothing runs together; where the
order does not matter, those are sorted. A value of another type has another digest: 1, 1.0 and True are three.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from hashlib import blake2b, sha1
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, GenericAlias, MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from amltk.scheduling.executors.shared import Shared
from amltk.scheduling.future import FUTURES
from amltk.scheduling.plugins._support.keys.names import full_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DIGEST_SIZE = 20

LARGE = 1 << 16
"""From how many bytes on buffers are digested by SHA-1, which takes a third of the time. Nobody forges arguments."""

LIBRARIES = frozenset({"numpy", "pandas", "pyarrow"})

_FLOAT = struct.Struct("<d")
_NAN = _FLOAT.pack(float("nan"))


class UnkeyedError(TypeError):
    """There is no digest of a value; the message says of what."""


def digest(value: Any) -> bytes:
    """The digest of a value.

    Raises:
        UnkeyedError: It is, or contains, something whose content is not known, or it contains itself.
    """
    try:
        return _digest(value)
    except RecursionError:
        raise UnkeyedError(
            f"a value of type {type(value).__name__}, which contains itself or is nested too deep"
        ) from None


def combine(kind: str, parts: Iterable[bytes]) -> bytes:
    """The digest of something of this kind that has these parts, in this order."""
    state = blake2b(kind.encode(), digest_size=DIGEST_SIZE)
    state.update(b"\0")
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def of_buffer(buffer: Any) -> bytes:
    """The digest of the bytes of a contiguous buffer, whatever their number."""
    view = memoryview(buffer)
    view = view.cast("B") if view.nbytes else memoryview(b"")
    if view.nbytes < LARGE:
        return combine("buffer", [bytes(view)])
    return combine("large buffer", [view.nbytes.to_bytes(8, "little"), sha1(view, usedforsecurity=False).digest()])


def _digest(value: Any) -> bytes:
    cls = type(value)
    rule = _RULES.get(cls)
    if rule is not None:
        return rule(value)
    if isinstance(value, Enum):
        return combine("enum", [full_name(cls).encode(), value.name.encode() if value.name else _digest(value.value)])
    if isinstance(value, type):
        return combine("class", [_resolvable(value)])
    if isinstance(value, PurePath):
        return combine("path", [str(value).encode("utf-8", "surrogatepass")])
    if is_dataclass(value):
        return _of_dataclass(value)
    if isinstance(value, tuple) and hasattr(cls, "_fields"):
        return combine("named tuple", [full_name(cls).encode(), *map(_digest, value)])
    if any(base.__module__.partition(".")[0] in LIBRARIES for base in cls.__mro__):
        from amltk.scheduling.plugins._support.keys import data

        return data.digest_data(value, _digest)
    if isinstance(value, Shared):
        return combine("shared", [value.digest().encode()])
    if cls in FUTURES:
        raise UnkeyedError(
            "a future, whose result is not known yet (await it before, or submit this call in a callback of @result)"
        )
    raise UnkeyedError(f"a value of type {cls.__module__}.{cls.__qualname__}")


def _of_dataclass(value: Any) -> bytes:
    cls = type(value)
    parts = [full_name(cls).encode()]
    for field in fields(value):
        parts += [field.name.encode(), _digest(getattr(value, field.name))]
    return combine("dataclass", parts)


def _of_float(value: float) -> bytes:
    return combine("float", [_float_bytes(value)])


def _float_bytes(value: float) -> bytes:
    return _FLOAT.pack(value) if value == value else _NAN  # noqa: PLR0124 - all NaN are one


def _of_text(kind: str) -> Callable[[Any], bytes]:
    return lambda value: combine(kind, [str(value).encode("utf-8", "surrogatepass")])


def _in_order(kind: str) -> Callable[[Any], bytes]:
    return lambda value: combine(kind, map(_digest, value))


def _in_any_order(kind: str) -> Callable[[Any], bytes]:
    return lambda value: combine(kind, sorted(map(_digest, value)))


def _pairs(value: Any) -> Iterable[bytes]:
    return (_digest(key) + _digest(item) for key, item in value.items())


def _mapping(kind: str) -> Callable[[Any], bytes]:
    return lambda value: combine(kind, sorted(_pairs(value)))


def _of_default_dict(value: defaultdict[Any, Any]) -> bytes:
    return combine("defaultdict", [_digest(value.default_factory), *sorted(_pairs(value))])


def _of_partial(value: partial[Any]) -> bytes:
    return combine("partial", [_digest(value.func), _digest(value.args), _digest(value.keywords)])


def _of_method(value: MethodType) -> bytes:
    return combine("method", [value.__func__.__qualname__.encode(), _digest(value.__self__)])


def _of_builtin(value: Any) -> bytes:
    owner = value.__self__
    if owner is None or type(owner).__name__ == "module":
        return combine("function", [_resolvable(value)])
    return combine("method", [value.__qualname__.encode(), _digest(owner)])


def _resolvable(value: Any) -> bytes:
    """The name of a function or class, which has to stand for what it does."""
    if "<" in value.__qualname__:
        raise UnkeyedError(f"{value.__qualname__}, which has no name of its own in a module")
    return full_name(value).encode()


def _of_time_with_zone(kind: str) -> Callable[[Any], bytes]:
    return lambda value: combine(kind, [value.isoformat().encode(), str(value.tzinfo).encode(), b"%d" % value.fold])


_RULES: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: combine("None", ()),
    type(...): lambda _: combine("Ellipsis", ()),
    type(NotImplemented): lambda _: combine("NotImplemented", ()),
    bool: _of_text("bool"),
    int: lambda value: combine("int", [b"%x" % value]),
    float: _of_float,
    complex: lambda value: combine("complex", [_float_bytes(value.real), _float_bytes(value.imag)]),
    str: _of_text("str"),
    bytes: lambda value: combine("bytes", [of_buffer(value)]),
    bytearray: lambda value: combine("bytearray", [of_buffer(value)]),
    memoryview: lambda value: combine(
        "memoryview", [value.format.encode(), _digest(value.shape), of_buffer(bytes(value))]
    ),
    list: _in_order("list"),
    tuple: _in_order("tuple"),
    deque: lambda value: combine("deque", [_digest(value.maxlen), *map(_digest, value)]),
    set: _in_any_order("set"),
    frozenset: _in_any_order("frozenset"),
    dict: _mapping("dict"),
    MappingProxyType: _mapping("mappingproxy"),
    Counter: _mapping("Counter"),
    OrderedDict: lambda value: combine("OrderedDict", _pairs(value)),
    defaultdict: _of_default_dict,
    range: lambda value: combine("range", map(_digest, (value.start, value.stop, value.step))),
    slice: lambda value: combine("slice", map(_digest, (value.start, value.stop, value.step))),
    Decimal: _of_text("Decimal"),
    Fraction: _of_text("Fraction"),
    UUID: _of_text("UUID"),
    dt.date: _of_text("date"),
    dt.timedelta: lambda value: combine("timedelta", map(_digest, (value.days, value.seconds, value.microseconds))),
    dt.datetime: _of_time_with_zone("datetime"),
    dt.time: _of_time_with_zone("time"),
    dt.timezone: _of_text("timezone"),
    GenericAlias: _of_text("alias"),
    FunctionType: lambda value: combine("function", [_resolvable(value)]),
    BuiltinFunctionType: _of_builtin,
    MethodType: _of_method,
    partial: _of_partial,
}
