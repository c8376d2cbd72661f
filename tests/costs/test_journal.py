"""What a journal adds to a call, and what it costs to read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from amltk.journal import Kind, Reader, Writer
from amltk.journal.folder import Folder
from amltk.journal.history.summary import summarize
from amltk.journal.reader import read_record
from amltk.scheduling import Scheduler
from amltk.scheduling.plugins.memo.store import Kept, Store
from amltk.scheduling.plugins.memo.store import Kind as MemoKind
from tests.costs.counting import calls, instructions, most_bytes, per_task
from tests.costs.executors import AtOnce

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write(writer: Writer, n: int) -> None:
    """Write a submission and a result for each of many calls, in batches of eight."""
    for call in range(n):
        writer.add(Kind.SUBMISSION, {"task": "train", "arguments": "(0.123, layers=[64, 32])", "attempt": 0}, call=call)
        writer.add(Kind.RESULT, {"duration": 1.25, "host": "node", "pid": 12}, b"x" * 100, call=call)
        if call % 8 == 7:
            writer.flush()


def test_writing(tmp_path: Path, at_most: Callable[..., None]) -> None:
    """Recording the submission and result of a call takes few calls and instructions, and an eighth of a write."""
    with Writer(tmp_path) as writer:
        cost = per_task(calls, lambda n: write(writer, n))
        at_most("calls for a recorded call", cost.total, 34, cost)
        at_most("writes for a recorded call", cost["write"], 1 / 8)
        cost = per_task(instructions, lambda n: write(writer, n))
        at_most("instructions for a recorded call", cost.total, 330, cost)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read such small chunks that the journal of a thousand calls is several times larger."""
    monkeypatch.setattr("amltk.journal.format.CHUNK", 1 << 16)


@pytest.mark.usefixtures("small_chunks")
def test_reading(tmp_path: Path, at_most: Callable[..., None]) -> None:
    """Reading a record takes few instructions; earlier records are not kept."""
    for n in (1000, 2000):
        with Writer(tmp_path / str(n)) as writer:
            write(writer, n)

    def read(n: int) -> None:
        for record in Reader(tmp_path / str(n)).records():
            assert record.head is not None

    with instructions() as few:
        read(1000)
    with instructions() as many:
        read(2000)
    at_most("instructions for a record that is read", (many.total() - few.total()) / 2000, 240)
    with most_bytes() as few:
        read(1000)
    with most_bytes() as many:
        read(2000)
    at_most("bytes for a recorded call of the past", (many["bytes"] - few["bytes"]) / 1000, 20)


def test_a_record_that_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_most: Callable[..., None]
) -> None:
    """Where a record is known to be, only its own bytes are read."""
    with Writer(tmp_path) as writer:
        write(writer, 100)
    record = next(record for record in Reader(tmp_path).records() if record.number == 10)
    real, sizes = os.pread, []
    monkeypatch.setattr(os, "pread", lambda *given: (data := real(*given), sizes.append(len(data)))[0])
    assert read_record(Folder(tmp_path), record.offset, writer.end).head == record.head
    at_most("bytes that are read for a byte of a record", sum(sizes) / (record.end - record.offset), 1.5)


def test_a_summary(tmp_path: Path, at_most: Callable[..., None]) -> None:
    """`show` takes few instructions per record, and decodes hardly any."""
    for n in (200, 400):
        with Writer(tmp_path / str(n)) as writer:
            for call in range(n):
                writer.add(Kind.SUBMISSION, {"task": "train", "arguments": f"({call})", "by": 0}, b"x", call=call)
                writer.add(Kind.RESULT, {"duration": 1.25, "number": float(call % 7)}, b"x", call=call)
    with instructions() as few:
        summarize(Reader(tmp_path / "200"))
    with instructions() as many:
        summarize(Reader(tmp_path / "400"))
    at_most(
        "instructions for a call in a summary", (many.total() - few.total()) / 200, 382, many
    )  # 3.13; 3.11 takes 293


def work(number: float) -> float:
    """A function that is not computed."""
    return number


def search(folder: Path | None, n: int) -> None:
    """A run of n calls, 64 of them in flight, with a journal if a folder is given."""
    scheduler = Scheduler(AtOnce())
    task = scheduler.task(work)
    task.map(map(float, range(n)), in_flight=64)
    scheduler.run(journal=folder, display=False)


@pytest.mark.usefixtures("small_chunks", "one_slice")
def test_a_run_with_a_journal(tmp_path: Path, at_most: Callable[..., None]) -> None:
    """What a journal adds to the cost of a call, and what a replay costs; nothing of past calls is kept."""
    without = per_task(instructions, lambda n: search(None, n)).total
    folders = iter(tmp_path / str(n) for n in range(9))
    cost = per_task(instructions, lambda n: search(next(folders), n))
    at_most("instructions that a journal adds to a call", cost.total - without, 715, cost)
    for n in (1, 200, 400, 1500, 3000):
        search(tmp_path / f"known {n}", n)
    cost = per_task(instructions, lambda n: search(tmp_path / f"known {n}", n))
    at_most("instructions that a replay adds to a call", cost.total - without, 905, cost)
    few, many = (most_bytes_of_replay(tmp_path / f"known {n}", n) for n in (1500, 3000))
    at_most("bytes for a replayed call of the past", (many - few) / 1500, 60)


def most_bytes_of_replay(folder: Path, n: int) -> float:
    """The most memory that a replay takes: the least of three rounds, since other threads of the process add theirs."""

    def once() -> float:
        with most_bytes() as peak:
            search(folder, n)
        return peak["bytes"]

    return min(once() for _ in range(3))


def test_a_memo_reads_nothing_that_it_has_written(tmp_path: Path, at_most: Callable[..., None]) -> None:
    """A session remembers what it has stored: it scans no records."""
    store = Store(tmp_path / "memo")

    def keep(n: int) -> None:
        for number in range(n):
            store.keep("work", b"%020d" % number, Kept(MemoKind.RESULT, b"value"))

    cost = per_task(calls, keep)
    store.close()
    at_most("records read for a result that is kept", cost.get("pread", 0), 0, cost)
    at_most("calls for a result that is kept", cost.total, 40, cost)
