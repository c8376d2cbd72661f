"""What trackers get of arguments, results and exceptions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest

from amltk.scheduling.plugins.trackers.record import (
    MAX_TEXT_LENGTH,
    Record,
    exception_text,
    metrics,
    parameters,
    scalar,
)


class Rude:
    """Raises on any access."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __float__ = __index__ = __repr__  # type: ignore[assignment]


class RudeError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def train(config: Any, *layers: int, rate: float = 0.1, **options: Any) -> None:
    """A function with every kind of parameter."""


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((3,), {}, {"config": 3, "rate": 0.1}),
        (({"a": 1, "b": {"c": None}},), {"rate": 1}, {"config.a": 1, "config.b.c": None, "rate": 1}),
        ((0, 8, 9), {"seed": True}, {"config": 0, "layers.0": 8, "layers.1": 9, "rate": 0.1, "seed": True}),
        (({},), {}, {"config": "{}", "rate": 0.1}),
        (({1: "x"},), {}, {"config.1": "x", "rate": 0.1}),
        (({"a": {"b": {"c": {"d": 1}}}},), {}, {"config.a.b.c": "{'d': 1}", "rate": 0.1}),
        ((), {"x": 1}, {"x": 1}),  # not what the function takes; the call itself will raise
    ],
)
def test_arguments_by_name(args: Any, kwargs: Any, expected: Any) -> None:
    """Arguments have their parameters' names, including defaults; mappings give one entry per key."""
    assert parameters(train, args, kwargs) == expected


def test_arguments_of_a_function_without_a_signature() -> None:
    """If Python knows no names, the arguments are numbered."""
    assert parameters(max, (1, 2), {"key": "k"}) == {"args.0": 1, "args.1": 2, "key": "k"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (None, None),
        (3, 3),
        (0.5, 0.5),
        (Fraction(1, 2), 0.5),
        ("text", "text"),
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        ([1, 2], "[1, 2]"),
    ],
)
def test_scalars(value: Any, expected: Any) -> None:
    """Numbers that fit, strings, bools and None are kept; everything else is recorded by its repr."""
    assert scalar(value) == expected
    assert type(scalar(value)) is type(expected)


@pytest.mark.parametrize("value", ["x" * 10_000, list(range(10_000)), dict.fromkeys(range(999), "x" * 999), Rude()])
def test_texts_are_short(value: Any) -> None:
    """However large an argument is, and whatever its repr does, its text is short."""
    text = scalar(value)
    assert isinstance(text, str)
    assert len(text) <= MAX_TEXT_LENGTH


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (0.25, {"result": 0.25}),
        (True, {"result": 1.0}),
        ({"loss": 1, "name": "x", "nested": {"a": 1}, 3: 4}, {"loss": 1.0, "3": 4.0}),
        (None, {}),
        ("0.5", {}),
        ([1, 2], {}),
        (10**400, {}),
        (Rude(), {}),
    ],
)
def test_metrics(result: Any, expected: Any) -> None:
    """A numeric result is one metric, a mapping gives one per number, and anything else gives none."""
    assert metrics(result) == expected


def test_numbers_that_are_not_finite_stay() -> None:
    """Trackers can handle NaN."""
    assert math.isnan(metrics({"loss": math.nan})["loss"])


def test_texts_of_exceptions() -> None:
    """Type and text, bounded, even if the text raises."""
    assert exception_text(ValueError("bad rate")) == "ValueError: bad rate"
    assert exception_text(RudeError()) == "RudeError: its str() raises RuntimeError"
    assert len(exception_text(ValueError("x" * 10_000))) == MAX_TEXT_LENGTH


def test_seconds() -> None:
    """The parts of the time are recorded only if the start in the worker is known."""
    assert Record("t", {}, 10.0, None, 14.0, "result").seconds == {"seconds.total": 4.0}
    assert Record("t", {}, 10.0, 11.0, 14.0, "result").seconds == {
        "seconds.total": 4.0,
        "seconds.waited": 1.0,
        "seconds.computed": 3.0,
    }
