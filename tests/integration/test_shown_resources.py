"""What is in use, what is waited for and who has which device: in the status, on the page and in the terminal."""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from amltk.display.journal import frame_of
from amltk.display.progress import Observer
from amltk.journal import Kind, Writer
from amltk.journal.folder import Folder
from amltk.journal.live.follower import Follower
from amltk.journal.live.status import read_status, write_status
from amltk.scheduling import Resources, Scheduler
from amltk.web import facts
from amltk.web.event_recorder import EventRecorder
from tests.helpers.gate import GUARD, Gate, pass_gate

if TYPE_CHECKING:
    from pathlib import Path


def add(*numbers: float) -> float:
    return sum(numbers)


class Watcher(threading.Thread):
    """Looks at a run from another thread until its status says what is in use; then opens the gate."""

    def __init__(self, scheduler: Scheduler, folder: Path, gate: Gate) -> None:
        super().__init__(name="watcher")
        self.gate, self.folder = gate, folder
        self.observer = Observer(scheduler, None, time.monotonic)
        self.overview: dict[str, Any] = {}
        self.picture = ""
        self.live: list[str] = []

    def run(self) -> None:
        """Look."""
        give_up = time.monotonic() + GUARD
        try:
            while time.monotonic() < give_up:
                status = read_status(Folder(self.folder))
                if status.pools and len(status.running) == 2:
                    self.note()
                    return
                time.sleep(0.02)
        finally:
            self.gate.open()

    def note(self) -> None:
        """Note what is shown."""
        follower = Follower(self.folder)
        follower.finish()
        self.overview = facts.overview(follower, "search")
        self.picture = drawn(frame_of(follower))
        self.live = sorted(call.where for call in self.observer.observe().calls)
        follower.close()


def drawn(frame: Any) -> str:
    file = io.StringIO()
    Console(file=file, width=100, height=60).print(frame.picture(100, 60))
    return file.getvalue()


@pytest.mark.parametrize("has_journal", [True, False])
def test_a_run_tells_what_is_in_use_and_what_is_waited_for(has_journal: bool, tmp_path: Path) -> None:
    """Two calls have a GPU, three wait for one, and two for results: with a journal, or as the page records a run."""
    scheduler = Scheduler.with_threads(8, resources={"gpu": ["0", "1"], "memory": "60 GB"})
    task = scheduler.task(pass_gate, plugins=Resources(gpu=1, memory="4 GB"))
    recorder = None if has_journal else EventRecorder(scheduler)
    with Gate() as gate:
        watcher = Watcher(scheduler, tmp_path, gate)

        @scheduler.on_start
        def start() -> None:
            futures = [task.submit(gate.address, value=n) for n in range(5)]
            scheduler.submit(add, futures[0], futures[1])
            scheduler.submit(add, futures[3], futures[4])
            watcher.start()

        def refresh() -> None:
            if recorder is not None and scheduler.running():
                recorder.refresh()
                scheduler.call_later(0.1, refresh)

        if recorder is None:
            scheduler.run(journal=tmp_path)
        else:
            recorder.open(str(tmp_path))
            scheduler.on_start(refresh)
            scheduler.run()
            recorder.close()
        watcher.join()
    told = watcher.overview
    assert told["pools"] == ["gpu 2/2", "memory 8 GB/60 GB"]
    assert told["waits"] == "waiting 5 (3 gpu, 2 dependencies)"
    assert sorted(call["devices"] for call in told["running"]) == [("gpu 0",), ("gpu 1",)]
    assert "gpu 2/2 · memory 8 GB/60 GB · waiting 5 (3 gpu, 2 dependencies)" in watcher.picture
    assert sorted(where.rpartition(" · ")[2] for where in watcher.live) == ["gpu 0", "gpu 1"]
    for device in ("gpu 0", "gpu 1"):
        assert f" · {device}" in watcher.picture

    follower = Follower(tmp_path, table=True)
    follower.finish()
    call = facts.call(follower, 0)
    other = facts.call(follower, 5)
    follower.close()
    assert call is not None
    assert other is not None
    assert call["devices"] in (["gpu 0"], ["gpu 1"])
    assert other["devices"] == []


def test_workers_are_listed_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    """The second worker stands before the tenth, in the table, in the timeline and in a part of it."""
    names = [f"{pid}@node" for pid in (900, 4711, 12, *range(100, 112))]
    with Writer(tmp_path) as writer:
        for call, name in enumerate(names):
            pid = int(name.partition("@")[0])
            writer.add(Kind.SUBMISSION, {"task": "train", "arguments": "()"}, call=call, at=1000.0 + call)
            ran = {"began": 1000.0 + call, "duration": 0.5, "host": "node", "pid": pid, "number": 1.0}
            writer.add(Kind.RESULT, ran, call=call, at=1000.5 + call)
    follower = Follower(tmp_path, table=True)
    follower.finish()
    told = facts.overview(follower, "search")
    part = facts.part_of_timeline(follower, 1000.0, 1020.0)
    follower.close()
    assert [worker["name"] for worker in told["workers"]] == names
    assert [lane["name"] for lane in told["timeline"]["lanes"]] == names
    assert part["lanes"] == names


NONSENSE: list[dict[str, Any]] = [
    {"pools": 1, "waiting": 2},
    {"pools": [1, ["gpu"], ["gpu", "x", 2], ["gpu", -1, 2], ["gpu", 1e999, 1], [{}, 1, 2]], "waiting": {"pools": [1]}},
    {"waiting": {"calls": -1, "pools": {"gpu": "x", "cpu": 1}, "dependencies": "y"}},
    {"running": [{"call": 1, "devices": 7}, {"call": 2, "devices": [1, "gpu 0"]}]},
]


@pytest.mark.parametrize("told", NONSENSE)
def test_nonsense_in_the_status_is_left_out(told: dict[str, Any], tmp_path: Path) -> None:
    """A status file that something else has written breaks no page."""
    with Writer(tmp_path) as writer:
        writer.add(Kind.SUBMISSION, {"task": "train", "arguments": "()"}, call=0)
        write_status(writer.folder, {"time": 1.0, **told})
        status = read_status(writer.folder)
        follower = Follower(tmp_path)
        follower.finish()
        facts.overview(follower, "search")
        frame_of(follower)
        follower.close()
    assert status.pools == ()
    assert status.waiting.calls == 0
