"""Equal values have the same key, and different values have different keys."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import inspect
import os
import subprocess
import sys
from collections import Counter, OrderedDict
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amltk.scheduling.plugins._support.keys.arguments import FunctionKeys, check_ignore, check_parameters
from amltk.scheduling.plugins._support.keys.canonical import UnkeyedError, digest
from amltk.scheduling.plugins._support.keys.source import source_digest

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Config:
    depth: int
    units: list[int]


def shape_of(value: Any) -> Any:
    """The value with the types of all its parts, to distinguish values that are equal in Python but not the same."""
    if isinstance(value, dict):
        return "dict", {key: shape_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [shape_of(item) for item in value]
    return type(value), repr(value)


@given(VALUES, VALUES)
def test_equal_values_only(one: Any, other: Any) -> None:
    """Two values have the same digest exactly if they are equal and of the same types."""
    assert (digest(one) == digest(other)) == (shape_of(one) == shape_of(other))


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ({1: 2, 3: 4}, {3: 4, 1: 2}),
        ({"a", "b", "c"}, {"c", "b", "a"}),
        (Counter("aab"), Counter("baa")),
        (float("nan"), -float("nan")),
        (Config(1, [2]), Config(1, [2])),
    ],
)
def test_same(one: Any, same: Any) -> None:
    """The order of dicts and sets does not matter, and all NaNs are equal."""
    assert digest(one) == digest(same)


NOON = dt.datetime(2020, 1, 1, 12, tzinfo=dt.UTC)

DIFFERENT = [
    None, ..., True, 1, 1.0, 1j, "1", b"1", bytearray(b"1"), (1,), [1], {1}, frozenset({1}), {1: None}, [[1]], [1, 1],
    OrderedDict({1: None}), range(1), slice(1), Decimal(1), Fraction(1), Path("1"), Colour.RED, Colour.BLUE,
    Point(1, 2), (1, 2), Config(1, [2]), Config(2, [1]), Config, Point, int, len,
    max, os.path.join, functools.partial(max, 1),
    [].append, dt.date(2020, 1, 1), NOON.replace(tzinfo=None), NOON, dt.timedelta(1),
    memoryview(b"1"),
]  # fmt: skip


def test_different() -> None:
    """Values of different types or content have different digests, and the digest of each is stable."""
    assert len({digest(value) for value in DIFFERENT}) == len(DIFFERENT)
    assert [digest(value) for value in DIFFERENT] == [digest(value) for value in DIFFERENT]


def test_the_same_in_every_process() -> None:
    """A digest does not depend on the hash seed or anything else of a process."""
    program = f"from {digest.__module__} import digest\nprint(digest([{{'a', 'b', 'c'}}, 1.5]).hex())"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-c", program]
        told.add(subprocess.check_output(command, env={**env, "PYTHONHASHSEED": seed}, text=True).strip())
    assert told == {digest([{"c", "b", "a"}, 1.5]).hex()}


@pytest.mark.parametrize("value", [object(), lambda: 1, [object()], {"a": iter([])}, Exception()])
def test_what_has_no_digest(value: Any) -> None:
    """Unsupported values are rejected, wherever they are."""
    with pytest.raises(UnkeyedError):
        digest(value)


def test_what_contains_itself() -> None:
    """A list that contains itself is rejected."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(UnkeyedError, match="contains itself"):
        digest(loop)


# ------------------------------------------------------------------ arguments


def train(x: int, y: int = 2, *rest: int, device: str = "cpu", **more: int) -> None: ...


def key_of(function: Any, *args: Any, **kwargs: Any) -> bytes:
    return FunctionKeys(function, ("device",), None, "Memo").key(args, kwargs)


def test_how_arguments_are_passed() -> None:
    """Equal arguments are equal by position, by name or by default; ignored ones are not examined."""
    same = {
        key_of(train, 1),
        key_of(train, 1, 2),
        key_of(train, x=1),
        key_of(train, y=2, x=1, device="cuda"),
        key_of(functools.partial(train, y=2), 1),
        key_of(functools.partial(functools.partial(train, 1), 2)),
        key_of(train, 1, device=object()),
    }
    others = [key_of(train, 2), key_of(train, 1, 3), key_of(train, 1, 2, 3), key_of(train, 1, z=1)]
    assert len(same) == 1
    assert len({*same, *others}) == 5
    assert key_of(train, 1, a=1, b=2) == key_of(train, 1, b=2, a=1)


def test_what_a_function_has_captured() -> None:
    """Captured variables and a method's object are examined at each call."""

    def make(scale: Any) -> Any:
        return lambda x: x * scale

    assert key_of(make(1), 1) == key_of(make(1), 1)
    assert key_of(make(1), 1) != key_of(make(2), 1)
    assert key_of([1].index, 1) != key_of([2].index, 1)
    assert key_of(Config(1, []).__eq__, 1) != key_of(Config(2, []).__eq__, 1)
    with pytest.raises(TypeError, match=r"scale is, or contains, a value of type builtins\.object"):
        key_of(make(object()), 1)


def test_lambdas_differ() -> None:
    """Lambdas are distinguished by their code."""
    assert key_of(lambda x: x + 1, 1) != key_of(lambda x: x + 2, 1)


def test_what_cannot_be_keyed_is_named() -> None:
    """The message names the function, the argument, the type and the remedy."""
    with pytest.raises(TypeError, match=r"Memo .*calls of train .*: y is, or contains, .*object; pass Memo\(..., key="):
        key_of(train, 1, [object()])
    with pytest.raises(TypeError, match="missing a required argument"):
        key_of(train)


def test_a_key_of_the_users() -> None:
    """`key=` gets the arguments as passed, and its return value is the key."""
    keys = FunctionKeys(train, (), lambda x, **_: {"x": x}, "Memo")
    assert keys.key((1,), {"y": object()}) == keys.key((1,), {}) != keys.key((2,), {})
    with pytest.raises(TypeError, match="what key= returned"):
        FunctionKeys(train, (), lambda *_: object(), "Memo").key((1,), {})


def test_ignore_is_checked() -> None:
    """A string, non-string entries, and a name that is not a parameter are rejected."""

    def plain(x: int) -> None: ...

    for bad in ("device", b"x", (1,)):
        with pytest.raises(TypeError, match="must be a tuple"):
            check_ignore(bad)
    with pytest.raises(ValueError, match="plain has no parameter 'devise'"):
        check_parameters(plain, ("x", "devise"))
    check_parameters(train, ("anything",))


def test_layout_is_no_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments, layout and docstrings are not part of a function's code; its behaviour is."""

    def of(source: str) -> bytes | None:
        monkeypatch.setattr(inspect, "getsource", lambda _: source)
        return source_digest(train)

    assert of("def f(x):\n    return x+1\n") == of('    def f(x):  # one\n        "Doc."\n\n        return (x + 1)\n')
    assert of("def f(x):\n    return x+1\n") != of("def f(x):\n    return x+2\n")
    assert source_digest(len) is None or of is not None
