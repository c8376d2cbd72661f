"""What a journal records about the calls of an experiment."""

from __future__ import annotations

import csv
import pickle
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import amltk.journal
from amltk.exceptions import JournalDamagedError, JournalError, MissingExtraError
from amltk.journal import Call, Kind, Writer
from amltk.journal.folder import Folder
from amltk.journal.history.call import FIELDS
from amltk.journal.history.export import export
from amltk.journal.lock import owner_of
from tests.unit.journal.making import LARGE

if TYPE_CHECKING:
    from pathlib import Path

TIME = 1_789_012_345.25
TEXT = "2026-09-10T03:52:25.250000+00:00"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A session with a call in each state; the last one was started twice."""
    with Writer(tmp_path / "search") as writer:
        writer.add(Kind.SESSION, {"host": "here"}, at=TIME)
        for call in range(5):
            writer.add(Kind.SUBMISSION, {"task": "train", "arguments": f"(depth={call})"}, call=call, at=TIME + call)
        ran = {"began": TIME + 7, "duration": 1.5, "host": "node", "pid": 12}
        writer.add(Kind.RESULT, ran | {"number": 0.5}, pickle.dumps(0.5), call=0, at=TIME + 10)
        writer.add(Kind.EXCEPTION, ran | {"type": "OSError", "message": "no\nroom"}, LARGE, call=1, at=TIME + 11)
        writer.add(Kind.CANCELLED, {}, call=2, at=TIME + 12)
        writer.add(Kind.LOST, {"pid": 12}, call=4, at=TIME + 13)
        writer.add(Kind.NOTE, {}, b"no call's", at=TIME + 14)
        writer.add(Kind.SUBMISSION, {"task": "train", "attempt": 1}, call=4, at=TIME + 15)
    return tmp_path / "search"


def test_calls(folder: Path) -> None:
    """Each call matches its records; one that was started again has no end."""
    ran = {"began": TIME + 7, "duration": 1.5, "host": "node", "pid": 12}
    assert amltk.journal.open(folder).calls() == [
        Call(0, "train", "(depth=0)", "result", submitted=TIME, ended=TIME + 10, result=0.5, **ran),
        Call(
            1,
            "train",
            "(depth=1)",
            "exception",
            0,
            TIME + 1,
            ended=TIME + 11,
            error="OSError",
            message="no\nroom",
            **ran,
        ),
        Call(2, "train", "(depth=2)", "cancelled", 0, TIME + 2, ended=TIME + 12),
        Call(3, "train", "(depth=3)", "pending", 0, TIME + 3),
        Call(4, "train", "", "pending", 1, TIME + 15),
    ]


def test_values_stay_pickles(folder: Path) -> None:
    """A value is the bytes from the worker, and is never unpickled here."""
    history = amltk.journal.open(folder)
    assert [history.value(0), history.value(1), history.value(2)] == [pickle.dumps(0.5), LARGE, None]
    for number in (3, 4, 99):
        with pytest.raises(KeyError):
            history.value(number)
    amltk.journal.rewind(folder, to=7)
    with pytest.raises(JournalError, match="has become shorter since it was last read"):
        history.value(0)


def test_it_follows(folder: Path) -> None:
    """A history read again includes the records written since."""
    history = amltk.journal.open(folder)
    with Writer(folder) as writer:
        writer.add(Kind.RESULT, {"number": 3}, call=4)
        writer.flush()
        assert [(call.state, call.result, call.attempt) for call in history.calls()[4:]] == [("result", 3.0, 1)]
        assert history.summary().state == "running"
        assert history.summary().owner == owner_of(folder / "lock")


def test_a_summary(folder: Path) -> None:
    """Counts, errors, the extremes of the numbers, and some calls: all as computed from the calls themselves."""
    history = amltk.journal.open(folder)
    summary, calls = history.summary(), history.calls()
    assert (summary.state, summary.sessions, summary.began, summary.latest) == ("interrupted", 1, TIME, TIME + 15)
    assert summary.errors == {"OSError": 1, "lost": 1}
    assert summary.lowest == summary.highest == calls[0]
    assert summary.pending == calls[3:]
    assert [call.number for call in summary.last] == [0, 1, 2, 4]
    assert summary.counts == {"result": 1, "exception": 1, "cancelled": 1, "pending": 2}
    with Writer(folder) as writer:
        for call, number in enumerate([2, -7.5, float("nan"), float("inf"), 1e3, "7"], 10):
            writer.add(Kind.SUBMISSION, {}, call=call)
            writer.add(Kind.RESULT, {"message": '"number":1e9,', "number": number}, call=call)
        writer.add(Kind.RESULT, {}, call=20)
    summary = history.summary()
    assert summary.lowest is not None
    assert summary.highest is not None
    assert (summary.lowest.number, summary.highest.number) == (11, 14)
    assert [call.number for call in summary.last] == [12, 13, 14, 15, 20]


@pytest.mark.parametrize(
    ("records", "state"),
    [
        ([], "new"),
        ([Kind.SESSION], "interrupted"),
        ([Kind.SESSION, Kind.SUSPEND], "suspended"),
        ([Kind.SESSION, Kind.SUSPEND, Kind.SESSION, Kind.FINISH], "finished"),
        ([Kind.SESSION, Kind.FINISH, Kind.SESSION], "interrupted"),
    ],
)
def test_how_it_stands(tmp_path: Path, records: list[Kind], state: str) -> None:
    """The last session determines the state of an experiment without a running process."""
    with Writer(tmp_path) as writer:
        for kind in records:
            writer.add(kind, {"code": "EXHAUSTED"})
    summary = amltk.journal.open(tmp_path).summary()
    assert (summary.state, summary.sessions) == (state, records.count(Kind.SESSION))
    assert summary.finish == ({"code": "EXHAUSTED"} if state == "finished" else {})


def test_damage_is_told(folder: Path) -> None:
    """Unreadable data is an error, not a history."""
    log = bytearray(Folder(folder).log.read_bytes())
    log[200] ^= 1
    Folder(folder).log.write_bytes(log)
    for use in (amltk.journal.open, lambda where: amltk.journal.History(where).summary()):
        with pytest.raises(JournalDamagedError):
            use(folder)
    with pytest.raises(JournalError, match="there is no journal in"):
        amltk.journal.open(folder / "nowhere")


def test_csv(folder: Path, tmp_path: Path) -> None:
    """A header and a line per call, with times that include their time zone, in a file that replaces an old one."""
    file = tmp_path / "out.csv"
    file.write_text("old")
    export(amltk.journal.open(folder).calls(), file)
    with file.open(newline="") as lines:
        rows = list(csv.reader(lines))
    assert rows[0] == list(FIELDS)
    assert [row[0] for row in rows[1:]] == ["0", "1", "2", "3", "4"]
    assert rows[1][:6] == ["0", "train", "(depth=0)", "result", "0", TEXT]
    assert rows[1][8:] == ["1.5", "node", "12", "0.5", "", "", "", ""]
    assert rows[2][-3:] == ["no\nroom", "", ""]
    assert {path.name for path in tmp_path.iterdir()} == {"search", "out.csv"}


def test_sqlite(folder: Path, tmp_path: Path) -> None:
    """A table of numbers, times and texts, including invalid texts and numbers of any size."""
    with Writer(folder) as writer:
        writer.add(Kind.SUBMISSION, {"task": "t", "arguments": "('\udcff',)"}, call=5)
        writer.add(Kind.RESULT, {"number": 10**400}, call=5)
    for _ in range(2):
        export(amltk.journal.open(folder).calls(), tmp_path / "out.sqlite")
    with closing(sqlite3.connect(tmp_path / "out.sqlite")) as database:
        failed = database.execute("SELECT number, submitted, duration FROM calls WHERE state = 'exception'").fetchall()
        assert failed == [(1, TEXT.replace("25.25", "26.25"), 1.5)]
        assert database.execute("SELECT arguments, result FROM calls WHERE number = 5").fetchall() == [
            ("('\\udcff',)", float("inf"))
        ]


def test_other_files(folder: Path, tmp_path: Path) -> None:
    """An unknown suffix is rejected; a file that cannot be written leaves nothing behind."""
    calls = amltk.journal.open(folder).calls()
    with pytest.raises(ValueError, match=r"must end with \.csv, \.sqlite, \.parquet"):
        export(calls, tmp_path / "out.xls")
    with pytest.raises(FileNotFoundError):
        export(calls, tmp_path / "nowhere" / "out.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OSError, match="directory"):
        export(calls, tmp_path / "folder.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"search", "folder.csv"}


@pytest.mark.parametrize(("library", "extra"), [("pandas", "monitor"), ("pyarrow", "parquet")])
def test_missing_libraries(folder: Path, monkeypatch: pytest.MonkeyPatch, library: str, extra: str) -> None:
    """The message names the missing library and the extra that installs it."""
    for module in ("frame", "parquet"):
        monkeypatch.delitem(sys.modules, f"amltk.journal.history.{module}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    history = amltk.journal.open(folder)
    with pytest.raises(MissingExtraError, match=rf"{library}.*pip install 'amltk\[{extra}\]'"):
        history.df() if library == "pandas" else export(history.calls(), folder / "out.parquet")
