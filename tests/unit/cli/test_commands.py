"""The command `amltk`."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from amltk.cli.main import main
from amltk.cli.words import moment, seconds
from amltk.journal import Kind, Writer
from amltk.journal.folder import Folder

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 1_789_012_345.25


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished experiment of ten calls."""
    monkeypatch.chdir(tmp_path)
    with Writer("search") as writer:
        writer.add(Kind.SESSION, {}, at=SECONDS)
        for call in range(10):
            writer.add(Kind.SUBMISSION, {"task": "train", "arguments": f"(depth={call},\n rate=0.1)"}, call=call)
            ran = {"duration": 100.0 - call, "host": "node", "pid": 12}
            if call % 4 == 3:
                writer.add(Kind.EXCEPTION, ran | {"type": "OSError", "message": "no\nroom " * 20}, call=call)
            elif call != 5:
                writer.add(Kind.RESULT, ran | {"number": call / 4}, call=call)
        writer.add(Kind.FINISH, {"code": "EXHAUSTED"})
    return tmp_path / "search"


def test_show(search: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`show` prints the state of an experiment, one fact per line."""
    assert main(["show", "search"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "search: finished, EXHAUSTED"
    assert lines[1].startswith("  sessions 1, since 2026-09-10 03:52:25 UTC; last record ")
    assert lines[2:] == [
        "  calls    10: 7 result, 2 exception, 1 pending",
        "  errors   2 OSError",
        "  lowest   0 by call 0, train(depth=0, rate=0.1)",
        "  highest  2.25 by call 9, train(depth=9, rate=0.1)",
        "  pending  call 5, train(depth=5, rate=0.1)",
        "  ended    call 4, train(depth=4, rate=0.1): 1 after 1.6 min",
        "           call 6, train(depth=6, rate=0.1): 1.5 after 1.57 min",
        "           call 7, train(depth=7, rate=0.1): OSError after 1.55 min",
        "           call 8, train(depth=8, rate=0.1): 2 after 1.53 min",
        "           call 9, train(depth=9, rate=0.1): 2.25 after 1.52 min",
    ]


def test_show_what_runs(search: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A running experiment is shown with its process; a killed one with the next step."""
    with Writer(search):
        assert main(["show", "search"]) == 0
        assert "search: running, process " in capsys.readouterr().out
    with Writer(search) as writer:
        writer.add(Kind.SESSION, {})
    log = Folder(search).log
    log.write_bytes(log.read_bytes() + b"\xbdAMJ")
    assert main(["show", "search"]) == 0
    told = capsys.readouterr().out
    assert "search: interrupted: its process was killed. Start the program again to continue\n" in told
    assert "  end      4 bytes of an incomplete record\n" in told


def test_calls(search: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`calls` prints one line per call, however many lines its texts have."""
    assert main(["calls", "search", "--failed", "--sort", "duration"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "call  state      duration  worker   result or error                           arguments",
        "   7  exception  1.55 min  12@node  OSError: no room no room no room no roo…  train(depth=7, rate=0.1)",
        "   3  exception  1.62 min  12@node  OSError: no room no room no room no roo…  train(depth=3, rate=0.1)",
    ]


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ([], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (["--reverse"], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        (["--sort", "duration"], [9, 8, 7, 6, 4, 3, 2, 1, 0, 5]),
        (["--sort", "duration", "--reverse"], [0, 1, 2, 3, 4, 6, 7, 8, 9, 5]),
        (["--failed", "--sort", "state"], [3, 7]),
    ],
)
def test_order(search: Path, capsys: pytest.CaptureFixture[str], options: list[str], numbers: list[int]) -> None:
    """Calls are sorted by a column, those without a value last; in JSON and CSV too."""
    assert main(["calls", "search", *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [call["number"] for call in told] == numbers
    assert main(["calls", "search", *options, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [{name: value or None for name, value in row.items()} for row in rows] == [
        {name: None if value in (None, "") else str(value) for name, value in call.items()} for call in told
    ]


def test_export(search: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`export` writes calls to a file; an unknown suffix is an error."""
    assert main(["export", "search", "out.csv"]) == 0
    assert capsys.readouterr().out == "out.csv: 10 calls\n"
    assert len((search.parent / "out.csv").read_text().splitlines()) > 10
    assert main(["export", "search", "out.xls"]) == 1
    assert "must end with .csv, .sqlite, .parquet" in capsys.readouterr().err


def test_care(search: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Damage is reported, repaired, and no longer reported; rewinding is possible."""
    assert main(["verify", "search"]) == 0
    assert capsys.readouterr().out == "search: 22 whole records; sound\n"
    assert main(["repair", "search"]) == 0
    assert "nothing to do: all 22 records are whole" in capsys.readouterr().out

    log = bytearray(Folder(search).log.read_bytes())
    log[-200] ^= 1
    Folder(search).log.write_bytes(log)
    assert main(["verify", "search"]) == 1
    assert "`amltk repair " in capsys.readouterr().out
    assert main(["show", "search"]) == 1
    assert capsys.readouterr().err.startswith("amltk: the journal ")
    assert main(["repair", "search"]) == 0
    assert "records kept; " in capsys.readouterr().out
    assert main(["verify", "search"]) == 0
    assert main(["rewind", "search", "--to-call", "2"]) == 0
    assert "search: 6 records kept; " in capsys.readouterr().out
    assert main(["rewind", "search", "--to", "3"]) == 0
    assert "search: 3 records kept; " in capsys.readouterr().out
    assert main(["rewind", "search", "--to", "3"]) == 1
    assert "has no such record" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["show"], ["rewind", "x"], ["rewind", "x", "--to", "1", "--to-call", "2"], ["calls", "x", "--sort", "y"]],
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Invalid arguments exit with 2, as is usual."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: amltk")


def test_as_a_module_into_a_closed_pipe(search: Path) -> None:
    """`python -m amltk` is the same command, and is silent when its reader has gone, as with `| head`."""
    command = [sys.executable, "-W", "error", "-m", "amltk", "calls", str(search)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("duration", "text"),
    [(0.0123, "12.3 ms"), (1, "1 s"), (59.9, "59.9 s"), (90, "1.5 min"), (7200, "2 h"), (2e5, "2.31 d")],
)
def test_durations(duration: float, text: str) -> None:
    """A duration is shown in the unit that needs the fewest digits."""
    assert seconds(duration) == text
    assert moment(SECONDS) == "2026-09-10 03:52:25 UTC"
