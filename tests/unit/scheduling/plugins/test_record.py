"""What experiment trackers are told of arguments, results and exceptions, however odd."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

import pytest

from amltk.scheduling.plugins.record import TEXT_LENGTH, exception_text, metrics, parameters


def train(rate: float, *sizes: int, momentum: float = 0.9, **rest: Any) -> None:
    """What is computed."""


class Silent:
    """Something that cannot be shown, and is no number although it seems to be one."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __float__(self) -> float:
        raise RuntimeError("no number")


class Broken(Mapping[str, Any]):
    """A mapping that has no items after all."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("no item")

    def __iter__(self) -> Any:
        raise RuntimeError("no keys")

    def __len__(self) -> int:
        return 1


class Array:
    """What has one element can be taken for a number, as numpy's arrays can."""

    def __init__(self, *elements: float) -> None:
        self.elements = elements

    def __float__(self) -> float:
        (element,) = self.elements
        return element


def test_arguments_have_the_names_of_parameters() -> None:
    """Positional, further, named, default and free arguments each have their name."""
    found = parameters(train, (0.1, 64, 32), {"seed": 7})
    assert found == {"rate": 0.1, "sizes.0": 64, "sizes.1": 32, "momentum": 0.9, "seed": 7}


def test_a_mapping_is_a_parameter_for_each_entry() -> None:
    """Configurations are looked into, down to a depth; one that contains itself is no trouble."""
    config: dict[Any, Any] = {"rate": 0.1, "net": {"layers": 3, 4: "x"}}
    config["self"] = config
    found = parameters(partial(train, 1), (), {"config": config, "empty": {}})
    assert found["config.rate"] == 0.1
    assert found["config.net.layers"] == 3
    assert found["config.net.4"] == "x"
    assert found["config.self.net.layers"] == 3
    assert found["empty"] == "{}"
    assert max(name.count(".") for name in found) == 3


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "expected"),
    [
        (train, (), {"momentum": 1}, {"momentum": 1}),
        (max, (1, 2), {}, {"args.0": 1, "args.1": 2}),
        (int, ("12",), {"base": 3}, {"args.0": "12", "base": 3}),
    ],
)
def test_calls_that_fit_no_signature(function: Any, args: Any, kwargs: Any, expected: dict[str, Any]) -> None:
    """What does not fit the function, or has no signature, is numbered."""
    assert parameters(function, args, kwargs) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (None, None),
        (3, 3),
        (0.5, 0.5),
        ("text", "text"),
        ("x" * 5000, "x" * TEXT_LENGTH),
        (Fraction(1, 2), 0.5),
        (Decimal("0.5"), "Decimal('0.5')"),
        (1 << 62, 1 << 62),
        ([1, 2], "[1, 2]"),
        (b"bytes", "b'bytes'"),
        (float, "<class 'float'>"),
    ],
)
def test_values(value: Any, expected: Any) -> None:
    """Numbers, texts, bools and None stay what they are, everything else is told by its repr."""
    assert parameters(train, (value,), {})["rate"] == expected


def test_values_that_are_not_to_be_told() -> None:
    """What is not finite stays a number; what is endless, huge or cannot be shown is a short text."""
    endless: list[Any] = []
    endless.append(endless)
    odd = [Silent(), Broken(), endless, 10**6000, list(range(10**6)), {"x": "y" * 10**6}.keys()]
    for value in odd:
        found = parameters(train, (value,), {})["rate"]
        assert isinstance(found, str)
        assert 0 < len(found) <= TEXT_LENGTH
    assert math.isnan(parameters(train, (math.nan,), {})["rate"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (0.5, {"result": 0.5}),
        (3, {"result": 3.0}),
        (True, {"result": 1.0}),
        (Array(2.0), {"result": 2.0}),
        (Decimal("0.5"), {"result": 0.5}),
        ({"loss": 0.1, "n": 3, "name": "x", 5: 1, "rows": Array(1, 2)}, {"loss": 0.1, "n": 3.0, "5": 1.0}),
        ("0.5", {}),
        (None, {}),
        ([0.5], {}),
        (1j, {}),
        (10**400, {}),
        (Silent(), {}),
        (Broken(), {}),
    ],
)
def test_metrics(result: Any, expected: dict[str, float]) -> None:
    """A result that is a number, or a mapping with numbers, gives metrics; anything else gives none."""
    assert metrics(result) == expected


def test_exceptions() -> None:
    """Type and text, shortened, also of an exception that cannot be shown."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert exception_text(ValueError("no")) == "ValueError: no"
    assert exception_text(MuteError()).endswith("MuteError: whose text raises RuntimeError")
    assert len(exception_text(ValueError("x" * 10**6))) == TEXT_LENGTH
