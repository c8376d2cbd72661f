"""Heads composed without JSON's encoder equal those that it would write."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amltk.journal.format import encode_head
from amltk.scheduling._journal.heads import SubmissionHeads, outcome_head
from amltk.scheduling._journal.options import Journal
from amltk.scheduling._journal.run_journal import RunJournal
from amltk.scheduling.executors.execution_info import ExecutionInfo

if TYPE_CHECKING:
    from pathlib import Path

texts = st.text() | st.sampled_from(["", "\ud800", '","by":7,"', 'a"b\\', "é\n", '{"task":"a","by":7,"'])
numbers = st.floats() | st.none()


@given(texts, st.integers(0, 2**40), texts)
def test_submissions(task: str, by: int, arguments: str) -> None:
    """Whatever the texts contain, the head equals that of JSON's encoder."""
    heads = SubmissionHeads()
    head = heads.head(task, by, arguments)
    assert head == encode_head({"task": task, "by": by, "arguments": arguments})
    assert head.startswith(heads.begin(task, by))


@given(texts, texts, st.integers(0, 20), st.integers(0, 20), texts)
def test_a_begin_is_of_one_task_and_input(task: str, other: str, by: int, by_other: int, arguments: str) -> None:
    """No head starts like that of another task or another input."""
    heads = SubmissionHeads()
    is_same = (task, by) == (other, by_other)
    assert heads.head(task, by, arguments).startswith(heads.begin(other, by_other)) == is_same


@given(numbers, numbers, st.none() | texts, st.none() | st.integers(0, 2**30), numbers)
def test_outcomes(began: float | None, ended: float | None, host: str | None, pid: int | None, number: Any) -> None:
    """The head of an outcome is JSON, including infinite numbers and missing information; times are rounded."""
    info = ExecutionInfo(host, pid, None, began, ended)
    said = json.loads(outcome_head(info, number))
    expected = {"began": began, "host": host, "pid": pid, "number": number}
    if began is not None and ended is not None:
        expected["duration"] = ended - began
    expected = {name: value for name, value in expected.items() if value is not None}
    assert said.keys() == expected.keys()
    error = {"began": 0.6e-6, "duration": 0.6e-9}
    for name, value in expected.items():
        if name in error and math.isfinite(value):
            assert abs(said[name] - value) <= error[name]
        else:
            assert said[name] == value or (math.isnan(said[name]) and math.isnan(value))
    assert outcome_head(None, number) == encode_head({} if number is None else {"number": number})


@pytest.mark.parametrize("began", [5, 5.0])
def test_times_of_other_executors(began: Any) -> None:
    """An executor may report whole seconds."""
    assert json.loads(outcome_head(ExecutionInfo("node", 7, None, began, 7.5), 1.0)) == {
        "began": 5,
        "duration": 2.5,
        "host": "node",
        "pid": 7,
        "number": 1.0,
    }


def test_a_submission_is_compared_byte_by_byte(tmp_path: Path) -> None:
    """A submission that differs in number, task, input or arguments is not the recorded one."""
    journal = RunJournal(Journal(tmp_path))
    journal.add_submission("train", 3, b"value", (1,), {}, more={})
    journal.flush()
    journal.close()
    again = RunJournal(Journal(tmp_path))
    heads, playback = SubmissionHeads(), again.playback
    for number, task, by, value in ((4, "train", 0, b"value"), (3, "trai", 0, b"value"), (3, "train", 1, b"value")):
        assert not playback.take_submission(number, heads.begin(task, by), value)
    assert not playback.take_submission(3, heads.begin("train", 0), b"valu")
    assert playback.take_submission(3, heads.begin("train", 0), b"value")
    assert playback.peek_done() is None
    assert playback.submissions_left == 0
    again.close()
