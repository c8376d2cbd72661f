"""ProcessWide: process-wide settings under calls that overlap in its threads."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling.plugins._support.process_wide import ProcessWide

if TYPE_CHECKING:
    from collections.abc import Iterator


class Setting:
    """A process-wide setting and its changes."""

    def __init__(self) -> None:
        self.value: Any = "found"
        self.changes: list[Any] = []

    @contextmanager
    def set(self, value: Any) -> Iterator[None]:
        """Change it, and restore the previous value."""
        found, self.value = self.value, value
        self.changes.append(value)
        try:
            yield
        finally:
            self.value = found


def test_overlapping_ones_put_back_what_was_found_first() -> None:
    """In whatever order two overlapping settings exit, the setting ends as it was before the first."""
    setting, shared = Setting(), ProcessWide()
    first, second = (shared.hold(partial(setting.set, value), value) for value in ("a", "b"))
    first.__enter__()
    second.__enter__()
    assert setting.value == "b"
    first.__exit__(None, None, None)
    assert setting.value == "b"  # not undone by the first
    second.__exit__(None, None, None)
    assert setting.value == "found"


def test_equal_ones_are_entered_once() -> None:
    """Of equal settings only the first makes a change; once all have exited, the next one enters again."""
    setting, shared = Setting(), ProcessWide()
    for _ in range(2):
        with shared.hold(partial(setting.set, "a"), "a"), shared.hold(partial(setting.set, "a"), "a"):
            assert setting.value == "a"
    assert setting.changes == ["a", "a"]
    assert setting.value == "found"


def test_it_is_left_when_the_call_raises() -> None:
    """An exception in the call propagates, and the setting is restored."""
    setting, shared = Setting(), ProcessWide()
    with pytest.raises(ZeroDivisionError), shared.hold(partial(setting.set, "a"), "a"):
        raise ZeroDivisionError
    assert setting.value == "found"


def test_one_that_cannot_be_entered_counts_for_nobody() -> None:
    """If entering raises, the call fails with that exception, and later ones do not wait for it."""
    setting, shared = Setting(), ProcessWide()
    with pytest.raises(ZeroDivisionError), shared.hold(lambda: 1 / 0, "bad"):  # type: ignore[arg-type, return-value]
        pass
    with shared.hold(partial(setting.set, "a"), "a"):
        pass
    assert setting.value == "found"
