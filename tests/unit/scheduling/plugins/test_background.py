"""Background: order, failures, and shutdown of its thread."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from amltk.scheduling.plugins._support.background import Background
from tests.helpers.gate import GUARD


def test_one_after_the_other_in_another_thread() -> None:
    """Functions run in order, in one thread with the given name."""
    background = Background("writer")
    free = threading.Event()
    background.put(free.wait)
    seen: list[tuple[int, str]] = []
    futures = [background.put(lambda n=n: seen.append((n, threading.current_thread().name))) for n in range(5)]
    assert seen == []
    free.set()
    futures[-1].result()
    assert seen == [(n, "writer") for n in range(5)]


def test_the_next_is_called_although_one_raises() -> None:
    """If a function raises, its future has the exception, and the next function runs."""
    background = Background("writer")
    bad, good = background.put(divmod, 1, 0), background.put(divmod, 7, 2)
    assert good.result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        bad.result()


def test_what_was_dropped_is_not_called() -> None:
    """A running function completes, waiting ones are dropped; more can be added afterwards."""
    background = Background("writer")
    begun, free = threading.Event(), threading.Event()
    first = background.put(lambda: (begun.set(), free.wait()))
    dropped = background.put(abs, -1)
    begun.wait()
    background.drop()
    free.set()
    first.result()
    assert background.put(abs, -2).result() == 2
    assert not dropped.done()


def test_what_follows_the_last_end_has_a_thread_of_its_own() -> None:
    """The thread takes nothing more once it has told that it is done, so the next run's clock knows the next thread."""
    background = Background("writer")
    free, followed, over = threading.Event(), threading.Event(), threading.Event()
    following: list[Future[threading.Thread]] = []

    def follow(_: object) -> None:
        following.append(background.put(threading.current_thread))
        followed.set()
        over.wait(GUARD)

    first = background.put(lambda: free.wait(GUARD) and threading.current_thread())
    first.add_done_callback(follow)
    free.set()
    assert followed.wait(GUARD)
    try:
        assert following[0].result(GUARD) is not first.result()
    finally:
        over.set()
