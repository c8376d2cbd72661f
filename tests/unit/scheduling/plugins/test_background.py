"""Work that nobody waits for."""

from __future__ import annotations

import threading

import pytest

from amltk.scheduling.plugins.background import Background


def test_order_and_futures() -> None:
    """Everything is called in order, on another thread, and each call has a future with what has come of it."""
    background = Background("work")
    seen: list[tuple[int, str]] = []

    def note(n: int) -> int:
        seen.append((n, threading.current_thread().name))
        return n // (n - 50)

    futures = [background.put(note, n) for n in range(100)]
    with pytest.raises(ZeroDivisionError):
        futures[50].result()
    assert futures[99].result() == 2
    assert seen == [(n, "work") for n in range(100)]


def test_the_thread_is_there_only_while_it_is_needed() -> None:
    """After each piece of work the thread ends, and the next one starts another."""
    background = Background("work")
    for _ in range(3):
        thread = background.put(threading.current_thread).result()
        thread.join()
        assert not thread.is_alive()


def test_dropped_work_is_not_done() -> None:
    """What has not begun when it is dropped or cancelled is never called; what has begun is finished."""
    background = Background("work")
    begun, go_on = threading.Event(), threading.Event()
    called: list[str] = []

    def wait() -> str:
        begun.set()
        go_on.wait()
        return "finished"

    first = background.put(wait)
    begun.wait()
    background.put(called.append, "dropped")
    background.drop()
    assert background.put(called.append, "cancelled").cancel()
    last = background.put(called.append, "last")
    go_on.set()
    last.result()
    assert first.result() == "finished"
    assert called == ["last"]
