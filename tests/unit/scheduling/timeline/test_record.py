"""Arguments and errors take little space and time to show, whatever they are."""

from __future__ import annotations

from typing import Any

from amltk.scheduling.timeline.record import MAX_TEXT_LENGTH, arguments_of, error_of


class Costly(list[Any]):
    """Counts how many of its items are accessed."""

    seen = 0

    def __iter__(self) -> Any:
        for value in super().__iter__():
            Costly.seen += 1
            yield value


class Strange:
    def __repr__(self) -> str:
        raise RuntimeError


class array:  # reprlib takes it for the standard library's, by its name, before CPython 3.12
    pass


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_arguments_are_written_as_in_a_call() -> None:
    """Positional arguments come first, then those by name."""
    assert (
        arguments_of((1, "a", None), {"rate": 0.5, "deep": {"x": [1, 2]}})
        == "1, 'a', None, rate=0.5, deep={'x': [1, 2]}"
    )
    assert arguments_of((), {}) == ""


def test_long_arguments_are_shortened() -> None:
    """Neither one long value nor many values make a record long."""
    assert len(arguments_of(("x" * 10**6,), {})) < 50
    assert len(arguments_of(tuple(range(10**5)), {})) <= MAX_TEXT_LENGTH
    assert len(arguments_of((), {f"name_{n}": "x" * 30 for n in range(20)})) <= MAX_TEXT_LENGTH
    assert len(arguments_of((), dict.fromkeys(map("a{}".format, range(10**5))))) <= MAX_TEXT_LENGTH
    assert len(arguments_of((10**1000,), {})) < 50


def test_a_large_container_is_not_looked_through() -> None:
    """Only the part that is shown is accessed."""
    arguments_of(([Costly(range(10**5))],), {})
    assert Costly.seen < 100


def test_objects_that_cannot_be_shown_are_named() -> None:
    """A failing `repr` and a class named like a built-in one do no harm."""
    assert "Strange" in arguments_of((Strange(),), {})
    assert arguments_of((array(),), {}).startswith("<tests.")


def test_errors_are_told_on_one_line() -> None:
    """Type and message are shown, shortened; a failing `str` does no harm."""
    assert error_of(None) == ""
    assert error_of(ValueError("a\n  b")) == "ValueError: a b"
    assert len(error_of(ValueError("x" * 10**6))) <= MAX_TEXT_LENGTH
    assert error_of(Unprintable()).startswith("Unprintable")
