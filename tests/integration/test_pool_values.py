"""Which arguments and results a pool can carry, and what happens to those it cannot."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import weakref
from collections import UserList
from concurrent.futures import Future
from typing import Any

import pytest

from amltk.exceptions import (
    RemoteTraceback,
)
from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.process_pool._pickling import pickles
from amltk.scheduling.executors.process_pool._state.protocol import MAX_BUFFERS
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.workers import IS_FREE_THREADED, METHODS, identity


class Unpicklable:
    def __reduce__(self) -> Any:
        raise ValueError("not this one")


class CannotBeUnpickled(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("there and not back")


def raise_what_cannot_be_unpickled() -> None:
    raise CannotBeUnpickled(1, 2)


def raise_value_error() -> None:
    raise ValueError("of the function")


def test_values_that_cannot_travel() -> None:
    """An unpicklable argument or result fails only its own call; an exception is delivered in any case."""
    with ProcessPool(1) as pool:
        with pytest.raises(ValueError, match="not this one") as argument:
            pool.submit(identity, Unpicklable()).result(GUARD)
        assert any("identity" in note for note in argument.value.__notes__)
        with pytest.raises(ValueError, match="not this one") as result:
            pool.submit(Unpicklable).result(GUARD)
        assert "result" in result.value.__notes__[0]
        with pytest.raises(CannotBeUnpickled, match="there and not back") as error:
            pool.submit(raise_what_cannot_be_unpickled).result(GUARD)
        assert "raise_what_cannot_be_unpickled" in str(error.value.__cause__)
        assert pool.submit(identity, 1).result(GUARD) == 1


def test_an_exception_has_the_traceback_of_the_worker() -> None:
    """The exception has its own type, with the traceback as text, the function and the worker."""
    with ProcessPool(1) as pool, pytest.raises(ValueError, match="of the function") as caught:
        pool.submit(raise_value_error).result(GUARD)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert 'raise ValueError("of the function")' in str(caught.value.__cause__)
    assert "raise_value_error" in caught.value.__notes__[0]


def test_large_values_travel_both_ways() -> None:
    """200 MB cross in both directions, in one piece and out of band."""
    with ProcessPool(2) as pool:
        assert len(pool.submit(bytes, 200_000_000).result(GUARD)) == 200_000_000
        numpy = pytest.importorskip("numpy", reason="numpy is a part of the development environment")
        array = numpy.arange(25_000_000)
        back = pool.submit(identity, array).result(GUARD)
        assert (array == back).all()
        back[0] = 1  # it can be written to


def test_what_goes_into_a_socket_only_in_part_arrives() -> None:
    """Messages of all sizes around what a socket takes at once reach an idle worker and a busy one."""
    sizes = range(150_000, 300_000, 5_000)
    with ProcessPool(1) as pool:
        assert [pool.submit(len, bytes(size)).result(GUARD) for size in sizes] == list(sizes)
        pool._engine._dispatcher.expected = 1e-5  # short calls, so that what comes next is sent in advance
        with Gate() as gate:
            pool.submit(pass_gate, gate.address)
            gate.wait_begun(1)
            calls = [pool.submit(len, bytes(size)) for size in sizes]
            gate.open()
            assert [call.result(GUARD) for call in calls] == list(sizes)


def put(queue: Any, value: Any) -> None:
    queue.put(value)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from CPython 3.12 on
@pytest.mark.parametrize("method", METHODS)
def test_workers_can_use_the_parents_managers(method: str) -> None:
    """A `multiprocessing.Manager` proxy authenticates with the parent's key, as in children of multiprocessing."""
    with multiprocessing.get_context("fork").Manager() as manager, ProcessPool(1, mp_context=method) as pool:
        queue = manager.Queue()
        pool.submit(put, queue, "from a worker").result(GUARD)
        assert queue.get(timeout=GUARD) == "from a worker"


class CancelsAnother:
    """An argument whose pickling runs user code that uses the pool."""

    def __init__(self, other: Future[Any]) -> None:
        self.other = other

    def __reduce__(self) -> Any:
        assert not self.other.running()
        assert self.other.cancel()
        return int, ()


def test_pickling_may_use_the_pool() -> None:
    """No lock is held while user code runs: an argument that cancels another call while pickled does not deadlock."""
    with Gate() as gate, ProcessPool(1) as pool:
        pool.submit(identity, 1).result(GUARD)
        pool._engine._dispatcher.expected = 1e-5  # short calls, so that what comes next is sent in advance
        blocker = pool.submit(pass_gate, gate.address)
        other = pool.submit(identity, 2)
        other.add_done_callback(lambda _: gate.open())
        assert pool.submit(identity, CancelsAnother(other)).result(GUARD) == 0
        assert other.cancelled()
        assert blocker.result(GUARD) is None


def test_more_buffers_than_a_message_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call with very many arrays is computed: those that are too many for one message travel in its pickle."""
    monkeypatch.setattr(pickles, "OUT_OF_BAND_BYTES", 1)
    with ProcessPool(1) as pool:
        pieces = [pickle.PickleBuffer(b"%d" % n) for n in range(MAX_BUFFERS + 10)]
        assert pool.submit(join, pieces).result(GUARD) == b"".join(pieces)


def join(pieces: list[Any]) -> bytes:
    return b"".join(pieces)


class SaysNothing:
    """Can be neither pickled nor shown, and raises an error that takes no notes."""

    def __call__(self) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __reduce__(self) -> Any:
        error = KeyError("no pickle")
        error.__notes__ = None  # type: ignore[assignment] # no list, so `add_note` raises
        raise error


def test_what_cannot_even_be_shown_fails_alone() -> None:
    """The message about a call that cannot be pickled does not break the pool, whatever the user's objects raise."""
    with ProcessPool(1) as pool:
        pid = pool.submit(os.getpid).result(GUARD)
        told = (KeyError, TypeError)  # the latter if pickle itself tried to add a note, as it does since CPython 3.14
        assert isinstance(pool.submit(SaysNothing()).exception(GUARD), told)
        assert isinstance(pool.submit(SaysNothing).exception(GUARD), told)
        assert pool.submit(os.getpid).result(GUARD) == pid


@pytest.mark.parametrize("step", ["take_arrivals", "handle", "_leave"], ids=["sending", "receiving", "leaving"])
def test_a_call_that_cannot_be_pickled_fails_whenever_it_comes(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds even in the middle of a turn, in each of its steps."""
    with ProcessPool(1) as pool:
        pool.submit(identity, 0).result(GUARD)
        exchange: Any = pool._engine._exchange
        part = exchange._io if step == "handle" else exchange
        take_the_step = getattr(part, step)
        late: list[Future[Any]] = []

        def take_it_and_get_another(*arguments: Any) -> None:
            take_the_step(*arguments)
            if not late:
                late.append(pool.submit(identity, threading.Lock()))

        monkeypatch.setattr(part, step, take_it_and_get_another)
        assert pool.submit(identity, 1).result(GUARD) == 1
        assert isinstance(late[0].exception(GUARD), TypeError)


@pytest.mark.skipif(IS_FREE_THREADED, reason="an object is freed when the thread that has made it is next awake")
def test_a_result_is_not_kept_alive() -> None:
    """Once the caller has released a result, the pool holds no reference to it, whatever it waits for next."""
    gone = threading.Event()
    with ProcessPool(1) as pool:
        weakref.finalize(pool.submit(UserList, [1]).result(), gone.set)
        assert gone.wait(GUARD)
