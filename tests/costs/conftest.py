"""Fixtures for the tests that count costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from amltk.scheduling.executors.process_pool._state import lock_order

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def at_most(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Assert an upper bound on a figure, and add it to the report: `pytest tests/costs -rP` shows all of them."""

    def check(what: str, figure: float, bound: float, details: object = "") -> None:
        record_property(what, figure)
        print(f"{what}: {figure:.6g}, at most {bound:.6g}")  # noqa: T201 - what -rP shows
        assert figure <= bound, f"{what}: {figure:.6g}, which is more than {bound:.6g}\n{details}"

    return check


@pytest.fixture(autouse=True)
def unchecked_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count what users pay: the check of the lock order is for tests only."""
    monkeypatch.setattr(lock_order, "check_order", False)


@pytest.fixture
def one_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run handle all ready events without checking the clock: how often it yields to other tasks is random."""
    for inbox in ("_loop", "_journal"):
        monkeypatch.setattr(f"amltk.scheduling.{inbox}.inbox.MAX_SLICE_SECONDS", math.inf)
