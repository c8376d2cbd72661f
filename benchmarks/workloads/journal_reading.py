"""How long it takes to inspect a journal of many calls, and how much memory a replay gains per call."""

from __future__ import annotations

import argparse
import tempfile
import time

import psutil
from _report import report

import amltk.journal
from amltk.journal import Kind, Writer
from amltk.scheduling._journal.playback import Overview, Playback


def write(folder: str, calls: int) -> None:
    with Writer(folder) as writer:
        writer.add(Kind.SESSION, {"seed": 1})
        for call in range(calls):
            writer.add(Kind.SUBMISSION, {"task": "train", "arguments": f"({call})", "by": 0}, b"x" * 40, call=call)
            outcome = {"began": 1.5e9 + call, "duration": 1.5, "host": "node", "pid": 1, "number": call / 7}
            writer.add(Kind.RESULT, outcome, b"x" * 20, call=call)
            if call % 64 == 0:
                writer.flush()


def replay(folder: str) -> int:
    """Read everything a replay reads and deliver none of it. Return by how many bytes the process has grown."""
    before = psutil.Process().memory_info().rss
    overview = Overview()
    with Writer(folder, survey=overview.survey) as writer:
        playback = Playback(writer.folder, overview)
        while playback.next_input() is not None:
            playback.take_done()
    return psutil.Process().memory_info().rss - before


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(folder, given.calls)
        grown = replay(folder)
        began = time.perf_counter()
        amltk.journal.History(folder).summary()
        shown = time.perf_counter() - began
        began = time.perf_counter()
        amltk.journal.open(folder)
        opened = time.perf_counter() - began
    report(show=shown, open=opened, bytes=grown / given.calls)


if __name__ == "__main__":
    main()
