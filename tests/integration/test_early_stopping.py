"""examples/early_stopping.py, as a program of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import amltk

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[2] / "examples/early_stopping.py"
GUARD = 240.0
"""Seconds after which it counts as hanging; it takes about 15, more on a busy machine."""


def test_bad_trials_are_stopped_early() -> None:
    """Most trials stop at a rung, some train to the end, and the table agrees with the printed lines."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLE],
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(amltk.__file__).parents[1])},
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    stopped = [line for line in lines if re.match(r"trial +\d+: stopped after +(1|3|9) of 27 epochs, acc", line)]
    finished = [line for line in lines if re.match(r"trial +\d+: trained to the end, accuracy 0\.\d+$", line)]
    assert len(stopped) + len(finished) == 40
    assert len(stopped) > len(finished) > 0
    assert f"{len(stopped)} of 40 trials were stopped early" in lines
    (share,) = (int(match[1]) for line in lines if (match := re.search(r"trained, (\d+)% of what", line)))
    assert share < 50
    assert re.match(r"the best is trial \d+: accuracy 0\.9\d\d with ", lines[-1])
