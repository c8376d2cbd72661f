"""What a worker prints on a terminal."""

from __future__ import annotations

import io
import os
import sys

import pytest

from amltk.scheduling.executors.process_pool._child.printing import print_whole_lines


def unbuffered(descriptor: int) -> io.TextIOWrapper:
    """A standard stream of `python -u`."""
    return io.TextIOWrapper(os.fdopen(descriptor, "wb", buffering=0), encoding="utf-8", write_through=True)


def test_a_line_for_a_terminal_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written before the line is complete, or flushed."""
    reader, writer = os.openpty()
    os.set_blocking(reader, False)
    with unbuffered(writer) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        print_whole_lines()
        print("epoch", 3, end="", file=stream)
        with pytest.raises(BlockingIOError):
            os.read(reader, 100)
        print(" of", 5, file=stream)
        assert os.read(reader, 100) == b"epoch 3 of 5\r\n"
        print("...", end="", file=stream, flush=True)
        assert os.read(reader, 100) == b"..."
    os.close(reader)


def test_elsewhere_nothing_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read by a program gets every piece at once, as `python -u` says."""
    reader, writer = os.pipe()
    with unbuffered(writer) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", None)
        print_whole_lines()
        print("epoch", end="", file=stream)
        assert os.read(reader, 100) == b"epoch"
    os.close(reader)
