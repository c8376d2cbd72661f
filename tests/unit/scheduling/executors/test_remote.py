"""The dispatcher of a library's executor: every call has one outcome, whatever the library and other threads do."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import WorkerLostError
from amltk.scheduling.executors.remote.executor import RemoteExecutor, RemoteFuture, compute

if TYPE_CHECKING:
    from collections.abc import Callable


class Library(RemoteExecutor):
    """A library that computes when the test tells it to."""

    def __init__(self, *, kills: bool = False) -> None:
        super().__init__()
        self.sent: list[tuple[RemoteFuture, bytes]] = []
        self.withdrawn: list[RemoteFuture] = []
        self.closed: list[bool] = []
        self.on_send: Callable[[RemoteFuture], object] = lambda call: None
        self._kills = kills

    def _send(self, call: RemoteFuture, payload: bytes) -> None:
        self.on_send(call)
        self.sent.append((call, payload))

    def withdraw(self, call: RemoteFuture) -> bool:
        self.withdrawn.append(call)
        return not call.running()

    def _kill(self) -> bool:
        return self._kills

    def _close(self, *, wait: bool) -> None:
        self.closed.append(wait)

    def compute_next(self) -> None:
        call, payload = self.sent.pop(0)
        self.end(call, compute(payload))


def test_a_call_travels_by_value_and_brings_its_outcome() -> None:
    """A closure is computed from its payload alone; its exception arrives with the traceback."""
    library = Library()
    y = 2
    good = library.submit(lambda x: x + y, 40)
    bad = library.submit(lambda: 1 // 0)
    library.compute_next()
    library.compute_next()
    assert good.result(0) == 42
    assert isinstance(bad.exception(0), ZeroDivisionError)
    assert "1 // 0" in str(bad.exception(0).__cause__)
    library.shutdown()
    assert library.closed == [True]


def test_what_cannot_be_pickled_fails_its_future_only() -> None:
    """A lock as an argument fails the future; the executor continues and can be shut down."""
    library = Library()
    error = library.submit(abs, threading.Lock()).exception(0)
    assert isinstance(error, TypeError)
    assert any("while pickling a call of abs" in note for note in error.__notes__)
    assert library.sent == []
    library.shutdown()


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()], ids=repr)
def test_a_call_that_cannot_be_sent_is_not_in_the_book(error: BaseException) -> None:
    """`submit` raises what the library raises, and a shutdown does not wait for the call."""
    library = Library()

    def refuse(_: Any) -> None:
        raise error

    library.on_send = refuse
    with pytest.raises(type(error)):
        library.submit(abs, 1)
    library.shutdown()


def test_a_call_that_is_cancelled_while_it_is_sent_is_taken_back() -> None:
    """A cancellation that precedes the library's acceptance reaches the library afterwards."""
    library = Library()
    library.on_send = lambda call: call.cancel()
    call = library.submit(abs, 1)
    assert call.cancelled()
    assert library.withdrawn == [call, call]
    library.shutdown()


def test_the_first_outcome_counts() -> None:
    """Nothing changes a call that is done: no second outcome, cancellation, or report that it started."""
    library = Library()
    call = library.submit(abs, -1)
    library.compute_next()
    library.end(call, error=OSError("late"))
    call.begin()
    assert not call.cancel()
    assert call.result(0) == 1
    assert not call.running()
    library.shutdown()


def test_a_running_call_is_cancelled_only_if_the_library_ends_it() -> None:
    """`cancel` of a running call returns False if the library cannot end it."""
    library = Library()
    call = library.submit(abs, -1)
    call.begin()
    assert call.running()
    assert not call.cancel()
    library.compute_next()
    assert call.result(0) == 1
    library.shutdown()


@pytest.mark.parametrize("kills", [True, False])
def test_the_end_without_waiting(kills: bool) -> None:
    """Waiting calls are cancelled; running ones are lost if the library kills them, or else run on unseen."""
    library = Library(kills=kills)
    running, waiting = library.submit(abs, 1), library.submit(abs, 2)
    library.sent[0][0].begin()
    library.kill_workers()
    assert waiting.cancelled()
    assert library.closed == [False]
    if kills:
        assert isinstance(running.exception(0), WorkerLostError)
    else:
        assert running.running()
    with pytest.raises(RuntimeError, match="shut down"):
        library.submit(abs, 1)
    library.kill_workers()
    library.shutdown()
    assert library.closed == [False]


def test_a_shutdown_gives_back_what_was_acquired_after_the_last_call() -> None:
    """`shutdown(wait=False)` returns at once, and the library is closed when the last call has ended."""
    library = Library()
    call = library.submit(abs, -1)
    library.shutdown(wait=False)
    assert library.closed == []
    library.compute_next()
    library.shutdown()
    assert call.result(0) == 1
    assert library.closed == [True]
