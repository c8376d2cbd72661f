"""examples/demo.py, which newcomers run first: as its own program, with and without a terminal."""

from __future__ import annotations

import fcntl
import itertools
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

import amltk
import amltk.journal

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

DEMO = Path(__file__).parents[2] / "examples/demo.py"
GUARD = 120.0
"""Seconds after which the demo counts as hanging; it takes about 30, more on a busy machine."""


def environment(**variables: str) -> dict[str, str]:
    """The environment of a user who has installed the package and set nothing about colours or warnings."""
    ours = {"PYTHONWARNINGS", "PYTHONPATH", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    return {**inherited, "PYTHONPATH": str(Path(amltk.__file__).parents[1]), **variables}


def test_the_demo_tunes_and_ends_with_a_table(tmp_path: Path) -> None:
    """Without a terminal it prints its progress in lines, handles failures and the timeout, and ends with a table.

    It also writes a page that shows what it did, and prints the page's location.
    """
    ended = subprocess.run(
        [sys.executable, DEMO],
        capture_output=True,
        text=True,
        timeout=GUARD,
        env=environment(),
        check=False,
        cwd=tmp_path,
    )
    assert ended.returncode == 0
    assert "\x1b" not in ended.stdout + ended.stderr, "control codes do not belong in a file"
    assert re.search(r"^trial \d+: R² = .* the best so far$", ended.stdout, re.MULTILINE)
    assert re.search(r"^trial \d+: failed, Solver produced non-finite", ended.stdout, re.MULTILINE)
    slow = re.compile("worker .* is not ready after ")  # the pool may say this on a busy machine
    assert all(line.startswith("amltk: ") or slow.match(line) for line in ended.stderr.splitlines()), ended.stderr
    assert re.search(r"^amltk: running, .* pending", ended.stderr, re.MULTILINE)
    assert "the time is up" in ended.stdout

    table = ended.stdout.partition("The best trials")[2]
    summary = re.search(r"^(\d+) trials completed, (\d+) failed; the run ended by TIMEOUT$", table, re.MULTILINE)
    assert summary is not None
    completed, failed = map(int, summary.groups())
    assert len(re.findall(r"^│ \d", table, re.MULTILINE)) == min(completed, 5) > 0
    assert failed == len(re.findall(r"^trial \d+: failed", ended.stdout, re.MULTILINE)) > 0

    page = tmp_path / "demo-timeline.html"
    assert ended.stdout.rstrip().endswith(f": {page}")
    assert page.read_text().count("evaluate") > 0


def test_the_demo_survives_its_process(tmp_path: Path) -> None:
    """Killed midway and restarted, it says in one line that it resumes, and trains nothing twice."""
    command = [sys.executable, DEMO]
    demo = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment(PYTHONUNBUFFERED="1"), cwd=tmp_path
    )
    with demo:
        assert demo.stdout is not None
        ended = [line for line in itertools.islice(demo.stdout, 2) if line.startswith("trial")]
        demo.kill()
    before = {call.number: call.ended for call in amltk.journal.open(tmp_path / "demo-journal").calls()}
    again = subprocess.run(
        command, capture_output=True, text=True, timeout=GUARD, env=environment(), check=False, cwd=tmp_path
    )
    assert again.returncode == 0, again.stderr
    lines = again.stdout.splitlines()
    assert lines[0].startswith("going on with demo-journal: nothing is trained twice.")
    assert lines[1 : 1 + len(ended)] == [line.rstrip() for line in ended]
    assert "the run ended by TIMEOUT" in again.stdout
    after = {call.number: call.ended for call in amltk.journal.open(tmp_path / "demo-journal").calls()}
    assert {number: after[number] for number, at in before.items() if at is not None}.items() <= before.items()
    assert len(after) > len(before)


def test_the_demo_in_a_terminal_is_drawn_and_can_be_interrupted(tmp_path: Path) -> None:
    """The panel is redrawn in place; Ctrl-C ends the run, restores the terminal and leaves no process."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 110, 0, 0))
    demo = subprocess.Popen(
        [sys.executable, DEMO],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm-256color"),
        start_new_session=True,
        cwd=tmp_path,
    )
    os.close(theirs)
    try:
        screen = read(ours, until=lambda screen: screen.count("running for") >= 4)
        assert "╭─ Scheduler" in without_codes(screen)
        assert re.search(r"evaluate +0 +2 ", without_codes(screen)), "both workers are at work"
        assert re.search(r"\x1b\[\d+A", screen), "the cursor goes up, to draw in place"

        (server,) = psutil.Process(demo.pid).children()
        workers = server.children()
        assert len(workers) == 3, "two workers, and what has imported what they need"
        os.killpg(demo.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
        screen += read(ours)
        assert demo.wait(GUARD) == -signal.SIGINT
        assert psutil.wait_procs([server, *workers], timeout=0)[1] == []
        assert "KeyboardInterrupt" in screen
        assert screen.rfind("\x1b[?25h") > screen.rfind("\x1b[?25l") >= 0, "the cursor is shown again"
    finally:
        os.close(ours)
        demo.kill()
        demo.wait()


def test_the_demo_is_short() -> None:
    """Its source has fewer than 100 lines."""
    assert len(DEMO.read_text().splitlines()) < 100


def read(terminal: int, until: Callable[[str], bool] = lambda _: False) -> str:
    """Read what is written to a terminal until that is enough, or until no process has it open for writing."""
    written = bytearray()
    deadline = time.monotonic() + GUARD
    while not until(text := written.decode(errors="ignore")):
        ready = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]
        assert ready, f"nothing more came after\n{text}"
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # how Linux reports that no process has it open
            chunk = b""
        if not chunk:
            break
        written += chunk
    return text


def without_codes(screen: str) -> str:
    """Return the text without colour codes."""
    return re.sub(r"\x1b\[[0-9;]*m", "", screen)
