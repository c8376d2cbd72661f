"""The pool is told when the process that starts workers has ended."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from amltk.scheduling.executors import ProcessPool

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system cannot tell")


@pytest.fixture
def sleepers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules of this process that have slept since."""
    modules: list[str] = []
    sleep: Callable[[float], None] = time.sleep

    def note(seconds: float) -> None:
        modules.append(sys._getframe(1).f_globals["__name__"])
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", note)
    return modules


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_shutdown_is_told_of_the_end(method: str, sleepers: list[str]) -> None:
    """A shutdown does not look again and again whether the process that starts workers has ended."""
    with ProcessPool(1, mp_context=method) as pool:
        assert pool.submit(abs, -1).result(timeout=120) == 1
    assert "subprocess" not in sleepers
