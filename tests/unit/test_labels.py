"""The label of a call: short and on one line, whatever its arguments."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amltk._labels import LONGEST, LONGEST_VALUE, call_label, value_in_short


class Plain:
    pass


class Unshowable:
    def __repr__(self) -> str:
        raise LookupError


class Hostile:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError


class Array:
    """Like NumPy's and PyTorch's arrays, as far as labels are concerned."""

    def __init__(self, *shape: int, dtype: str | None = "float64") -> None:
        self.shape = shape
        if dtype is not None:
            self.dtype = dtype

    def __str__(self) -> str:
        return "7"

    def __repr__(self) -> str:
        raise AssertionError("it would take for ever")


@pytest.mark.parametrize(
    ("args", "kwargs", "label"),
    [
        ((), {}, "train()"),
        ((), {"lr": 0.1, "depth": 3}, "train(lr=0.1, depth=3)"),
        ((1 / 3, -1e-7, 12345.678, 1e300), {}, "train(0.333333, -1e-07, 12345.678, 1e+300)"),
        (("mnist", None), {"lr": 0.1}, "train('mnist', None, lr=0.1)"),
        ((Array(1000, 20), Array(3, dtype=None), Array()), {}, "train(Array(1000x20, float64), Array(3), 7)"),
        ((Plain(), Plain, partial(print)), {}, "train(<Plain>, Plain, functools.partial(<built-in fun…)"),
        (([1, 2, 3, 4, 5], (1,), set(), {"a": 1}, []), {}, "train([1, 2, 3, 4, …], (1,), set(), {'a': 1}, [])"),
        (([[[[1]]]],), {}, "train([[[…]]])"),
        ((10**5000, 2**100), {}, f"train(<int of 16,610 bits>, {2**100})"),
        ((Unshowable(),), {}, "train(<Unshowable, whose repr raises …)"),
        ((Hostile(),), {}, "train(<Hostile>)"),
        (("a\nb\x1b[31m",), {}, "train('a\\nb\\x1b[31m')"),
        (("/data/" * 20 + "x.csv",), {}, "train('/data//data//d…ta//data/x.csv')"),
        (
            (b"x" * 50, bytearray(b"y" * 50)),
            {},
            "train(b'xxxxxxxxxxxxxx…xxxxxxxxxxxxxx', b'yyyyyyyyyyyyyy…yyyyyyyyyyyyyy')",
        ),
        (tuple(range(100)), {}, None),
    ],
)
def test_calls(args: tuple[Any, ...], kwargs: dict[str, Any], label: str | None) -> None:
    """A call is written as in Python if it is short, and otherwise by types and sizes."""
    written = call_label("train", args, kwargs)
    assert len(written) <= LONGEST
    assert label is None or written == label
    assert label is not None or written.endswith(", …)")


def test_what_does_not_fit_is_not_looked_at() -> None:
    """Of a thousand arguments only those that fit are shown and have their repr computed."""
    asked: Counter[str] = Counter()

    class Shown:
        def __repr__(self) -> str:
            asked["repr"] += 1
            return "Shown()"

    call_label("train", (Shown(),) * 1000, {})
    assert asked["repr"] < 20


@given(st.recursive(st.none() | st.floats() | st.text() | st.binary() | st.integers(), st.lists))
def test_any_value_is_told_on_one_short_line(value: Any) -> None:
    """A label is short and printable, whatever the value."""
    text = value_in_short(value)
    assert 0 < len(text) <= LONGEST_VALUE
    assert text.isprintable()
