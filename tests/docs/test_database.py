"""The program of docs/guide/database.md, really interrupted: stored outcomes stay, and the next start resumes."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.docs import fences
from tests.helpers.gate import GUARD
from tests.helpers.script import Script, run_script

if TYPE_CHECKING:
    from pathlib import Path

CALLS = 40
LONG = "    import time; time.sleep(0.1)\n"


def program(path: Path) -> str:
    """The page's first block, without its hidden lines, with slower calls, on a database of the test."""
    (block, *_) = (each for each in fences.blocks(fences.ROOT / "docs/guide/database.md") if "exec=" in each.info)
    shown = [line for line in block.body.splitlines(keepends=True) if "markdown-exec: hide" not in line]
    before, train, after = "".join(shown).partition("def train(config):\n")
    return f"{before}{train}{LONG}{after}\nprint(sweep({str(path)!r}).code.name)\n"


def stored(path: Path) -> int:
    """The number of outcomes in the database; 0 if there is no table yet."""
    try:
        with closing(sqlite3.connect(path)) as database:
            return int(database.execute("SELECT COUNT(*) FROM trials").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_sweep_resumes(tmp_path: Path, signum: signal.Signals) -> None:
    """Ctrl-C, a batch system's SIGTERM and `kill -9` lose no stored outcome, and the next start computes the rest."""
    path = tmp_path / "trials.db"
    with Script(program(path)) as script:
        deadline = time.monotonic() + GUARD
        while stored(path) < 4:
            assert time.monotonic() < deadline, script.report()
            time.sleep(0.01)
        script.send(signum)
        assert script.end().code != 0
    before = stored(path)
    assert 4 <= before < CALLS

    again = run_script(program(path))
    assert (again.code, again.lines) == (0, [f"{before} of {CALLS} are stored", "EXHAUSTED"])
    assert stored(path) == CALLS
