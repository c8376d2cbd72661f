"""A journal's calls as a DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import amltk.journal
from amltk.journal import Kind, Writer
from amltk.journal.history.call import FIELDS

if TYPE_CHECKING:
    from pathlib import Path


def test_columns(tmp_path: Path) -> None:
    """Each column has one type, whatever calls there are: none, one without an ending, one with everything."""
    time = 1_789_012_345.25
    with Writer(tmp_path) as writer:
        frames = [amltk.journal.open(tmp_path).df()]
        writer.add(Kind.SUBMISSION, {"task": "train", "arguments": "(1)"}, call=0, at=time)
        writer.flush()
        frames.append(amltk.journal.open(tmp_path).df())
        ran = {"began": time + 1, "duration": 2, "host": "node", "pid": 12, "number": 7}
        writer.add(Kind.RESULT, ran, call=0, at=time + 3)
        writer.flush()
        frames.append(amltk.journal.open(tmp_path).df())
    assert [len(frame) for frame in frames] == [0, 1, 1]
    for frame in frames:
        assert list(frame.columns) == list(FIELDS)
        types = {name: str(frame.dtypes[name]) for name in FIELDS if name not in {"task", "arguments", "state"}}
        times = dict.fromkeys(("submitted", "began", "ended"), "datetime64[us, UTC]")
        numbers = {"number": "int64", "attempt": "int64", "duration": "float64", "result": "float64", "pid": "Int64"}
        assert {name: types[name] for name in times | numbers} == times | numbers
    row = frames[-1].iloc[0]
    assert (row.number, row.state, row.result, row.pid, row.duration) == (0, "result", 7.0, 12, 2.0)
    assert [row[name].timestamp() for name in ("submitted", "began", "ended")] == [time, time + 1, time + 3]
