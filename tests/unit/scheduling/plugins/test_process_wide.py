"""Settings of a process whose holders overlap."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from amltk.scheduling.plugins.process_wide import ProcessWide

if TYPE_CHECKING:
    from collections.abc import Iterator


class Setting:
    """A setting of the process, changed as the filters of warnings are: what was found is put back."""

    def __init__(self) -> None:
        self.value = "before"
        self.log: list[str] = []

    @contextmanager
    def set_to(self, value: str) -> Iterator[None]:
        found, self.value = self.value, value
        self.log.append(value)
        try:
            yield
        finally:
            self.value = found
            self.log.append(f"not {value}")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_overlapping(order: tuple[int, ...]) -> None:
    """In whatever order holders leave, a change holds until the last one has left, and then what was before is back."""
    setting, shared = Setting(), ProcessWide()
    values = ("one", "two", "one")
    held = [shared.hold(partial(setting.set_to, value), value) for value in values]
    for context in held:
        context.__enter__()
    for n in order:
        assert setting.value == "two"
        held[n].__exit__(None, None, None)
    assert setting.value == "before"
    assert setting.log == ["one", "two", "not two", "not one"]


def test_one_that_cannot_be_entered() -> None:
    """What a context manager raises when it is entered comes out, and takes nothing from the others."""
    setting, shared = Setting(), ProcessWide()

    @contextmanager
    def broken() -> Iterator[None]:
        raise OSError("no such setting")
        yield

    with shared.hold(partial(setting.set_to, "one"), "one"):
        with pytest.raises(OSError, match="no such"), shared.hold(broken, "two"):
            pass
        assert setting.value == "one"
    assert setting.value == "before"
