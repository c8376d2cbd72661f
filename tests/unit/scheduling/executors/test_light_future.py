"""A future that is as light as possible, and otherwise equals that of the standard library."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from concurrent.futures import CancelledError, Future, InvalidStateError, as_completed, wait

import pytest

from amltk.scheduling.executors.light_future import LightFuture


def test_it_has_what_the_standard_library_gives_a_future() -> None:
    """A light future has the attributes of the standard library's, which may differ in another version of Python."""
    future: LightFuture[int] = LightFuture()
    light, heavy = dict(vars(future)), vars(Future())
    del light["_condition"], heavy["_condition"]
    made_when_needed = {"_waiters": [], "_done_callbacks": []}
    assert light | made_when_needed == heavy
    assert [future._waiters, [*future._done_callbacks]] == [[], []]


def test_all_callbacks_are_called_in_their_order(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever one of them raises is logged, and the others are called; one that comes late is called at once."""
    future, called = LightFuture[int](), list[object]()
    future.add_done_callback(lambda _: called.append("first"))
    future.add_done_callback(lambda _: divmod(1, 0))
    future.add_done_callback(lambda _: called.append("third"))
    assert called == []
    future.set_result(1)
    future.add_done_callback(lambda future: called.append(future.result()))
    future.add_done_callback(lambda _: divmod(1, 0))
    assert called == ["first", "third", 1]
    assert [record.name for record in caplog.records] == ["concurrent.futures"] * 2
    assert caplog.messages[0].startswith("exception calling callback for <LightFuture at")


def test_outcomes_are_those_of_a_future() -> None:
    """Results, exceptions and cancellations behave as usual, and are set once."""
    good, bad, dropped = LightFuture[int](), LightFuture[int](), LightFuture[int]()
    error = ValueError("bad")
    good.set_result(1)
    bad.set_exception(error)
    dropped.cancel()
    assert (good.result(), good.exception()) == (1, None)
    with pytest.raises(ValueError, match="bad"):
        bad.result()
    assert bad.exception() is error
    for ask in (dropped.result, dropped.exception):
        with pytest.raises(CancelledError):
            ask()
    for ended in (good, bad, dropped):
        with pytest.raises(InvalidStateError):
            ended.set_result(2)


def test_an_exception_that_was_raised_is_let_go_with_its_future() -> None:
    """A raised exception and its future form no cycle, which would keep the traceback until garbage collection."""
    future, error = LightFuture[int](), ValueError("bad")
    is_there = weakref.ref(future)
    future.set_exception(error)
    del error
    with contextlib.suppress(ValueError):
        future.result()
    gc.disable()
    try:
        del future
        assert is_there() is None
    finally:
        gc.enable()


def test_who_waits_is_woken() -> None:
    """Every waiting thread gets the outcome; one that waits in vain times out."""
    future = LightFuture[int]()
    with pytest.raises(TimeoutError):
        future.result(timeout=0)
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.append(future.result())) for _ in range(3)]
    for thread in threads:
        thread.start()
    future.set_result(7)
    for thread in threads:
        thread.join()
    assert got == [7, 7, 7]


def test_the_functions_of_the_module_take_it() -> None:
    """`wait` and `as_completed` accept a light future."""
    futures = [LightFuture[int]() for _ in range(3)]
    ender = threading.Thread(target=lambda: [future.set_result(n) for n, future in enumerate(futures)])
    ender.start()
    assert wait(futures).done == set(futures)
    assert sorted(future.result() for future in as_completed(futures)) == [0, 1, 2]
    ender.join()
