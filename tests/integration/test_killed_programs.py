"""Eleven small programs with a journal are killed at random moments, and restarted until done; see `tests.kills`."""

from __future__ import annotations

import pytest

from tests.kills.killing import kill
from tests.kills.programs import PROGRAMS

KILLS = 1


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_killed_program_goes_on(name: str) -> None:
    """Its callbacks learn what its journal holds, nothing recorded is computed again, and no process is left."""
    if name == "optuna":
        pytest.importorskip("optuna")
    verdict = kill(name, seed=1, kills=KILLS)
    assert verdict.problems == []
    assert verdict.computed >= 20
