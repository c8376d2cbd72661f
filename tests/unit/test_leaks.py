"""The leak check itself: it finds leaks, and waits only if necessary."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from tests import leaks


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> leaks.Holdings:
    monkeypatch.setattr(leaks, "LIBRARIES", [])  # to which clusters that tests of this process share have added
    return leaks.Holdings.now()


def test_nothing_left(before: leaks.Holdings) -> None:
    """A process that holds what it held before has left nothing behind."""
    assert leaks.since(before, patience=0) == []


def test_thread(before: leaks.Holdings) -> None:
    """A thread that is still alive is named."""
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="forgotten")
    thread.start()
    left = leaks.since(before, patience=0)
    go.set()
    thread.join()
    assert left == ["thread forgotten"]


def test_thread_that_is_ending(before: leaks.Holdings) -> None:
    """A thread that ends on its own shortly after the test is not a leak."""
    thread = threading.Thread(target=time.sleep, args=(0.02,))
    thread.start()
    assert leaks.since(before) == []


def test_descriptor(before: leaks.Holdings) -> None:
    """Both ends of an unclosed pipe are named."""
    ends = os.pipe()
    left = leaks.since(before, patience=0)
    for end in ends:
        os.close(end)
    assert [line.partition(": pipe")[0] for line in sorted(left)] == [f"file descriptor {end}" for end in ends]


def test_handler(before: leaks.Holdings) -> None:
    """A handler that was not restored is named, and can be removed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    left = leaks.since(before, patience=0)
    leaks.restore_handlers(before)
    assert len(left) == 1
    assert "SIGTERM" in left[0]
    assert leaks.since(before, patience=0) == []


def test_child(before: leaks.Holdings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child process is named by its command."""
    monkeypatch.setattr(leaks, "_descendants", lambda _pid: {os.getpid()})
    left = leaks.since(before, patience=0)
    assert len(left) == 1
    assert left[0].startswith(f"process {os.getpid()}: ")
    assert "python" in left[0]
