"""Objects that do something unexpected when they are pickled, unpickled, raised or collected cost one call at most."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from typing import Any

import pytest

from amltk.exceptions import RemoteError, RemoteTraceback, WorkerLostError
from amltk.scheduling.executors import ProcessPool
from tests.helpers.gate import GUARD
from tests.helpers.workers import METHODS, identity, kill_me, wait_for


def leave() -> Any:
    raise SystemExit("while it was pickled or unpickled")


def crash() -> Any:
    kill_me()


def overflow() -> Any:
    return overflow()


class ActsWhenPickled:
    """Does something in the process that pickles it."""

    def __init__(self, act: Any) -> None:
        self.act = act

    def __reduce__(self) -> Any:
        return self.act(), ()


class ActsWhenUnpickled:
    """Does something in the process that unpickles it."""

    def __init__(self, act: Any) -> None:
        self.act = act

    def __reduce__(self) -> Any:
        return self.act, ()


class ActsWhenCollected:
    """Does something when it is collected, in the process that has unpickled it."""

    def __init__(self, act: Any) -> None:
        self.act = act
        self.maker = os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.maker:
            self.act()


def make(kind: type, act: Any) -> Any:
    return kind(act)


def goes_on(pool: ProcessPool) -> bool:
    return bool(pool.submit(identity, 1).result(GUARD) == 1)


@pytest.mark.parametrize("act", [leave, overflow])
def test_an_argument_that_fails_when_it_is_pickled(act: Any) -> None:
    """Its call fails with what it has raised; SystemExit does not end the pool's thread."""
    with ProcessPool(1) as pool:
        error = pool.submit(identity, ActsWhenPickled(act)).exception(GUARD)
        assert isinstance(error, SystemExit if act is leave else RecursionError)
        assert goes_on(pool)


@pytest.mark.parametrize(("act", "error"), [(leave, SystemExit), (overflow, RecursionError), (crash, WorkerLostError)])
def test_an_argument_that_acts_when_it_is_unpickled(act: Any, error: type[BaseException]) -> None:
    """Whatever it does to its worker, its call has an error, and others are computed."""
    with ProcessPool(1) as pool:
        others = [pool.submit(identity, n) for n in range(5)]
        future = pool.submit(identity, ActsWhenUnpickled(act))
        others += [pool.submit(identity, n) for n in range(5, 10)]
        assert isinstance(future.exception(GUARD), error)
        assert [other.result(GUARD) for other in others] == list(range(10))


@pytest.mark.parametrize(("act", "error"), [(leave, SystemExit), (overflow, RecursionError), (crash, WorkerLostError)])
def test_a_result_that_acts_when_it_is_pickled(act: Any, error: type[BaseException]) -> None:
    """The call that returned it has the error."""
    with ProcessPool(1) as pool:
        assert isinstance(pool.submit(make, ActsWhenPickled, act).exception(GUARD), error)
        assert goes_on(pool)


@pytest.mark.parametrize(("act", "error"), [(leave, SystemExit), (overflow, RecursionError)])
def test_a_result_that_acts_when_it_is_unpickled(act: Any, error: type[BaseException]) -> None:
    """It does so in the program, on a thread of the pool, and costs only its own call."""
    with ProcessPool(1) as pool:
        assert isinstance(pool.submit(make, ActsWhenUnpickled, act).exception(GUARD), error)
        assert goes_on(pool)


@pytest.mark.parametrize("act", [leave, crash])
def test_an_argument_that_acts_when_it_is_collected(act: Any) -> None:
    """An error of `__del__` is ignored, as everywhere; a crash costs the call that runs then, and no other."""
    with ProcessPool(1) as pool:
        futures = [pool.submit(type, ActsWhenCollected(act)), *(pool.submit(identity, n) for n in range(5))]
        outcomes = [future.exception(GUARD) for future in futures]
        lost = [error for error in outcomes if error is not None]
        assert len(lost) == (act is crash)
        assert all(isinstance(error, WorkerLostError) for error in lost)
        assert goes_on(pool)


class FalsyError(Exception):
    """Is false, and has no length."""

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


class NeedsMore(Exception):
    """Its `__init__` takes other arguments than those that it passes on."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code


class NamesakeError(Exception):
    """Compares equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def raise_it(kind: Any, *args: Any, **kwargs: Any) -> None:
    raise kind(*args, **kwargs)


def raise_chain() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError as error:
        error.add_note("a note")
        raise NeedsMore(3, reason="third") from error


@pytest.mark.parametrize(
    ("kind", "given", "named"),
    [(FalsyError, ("nothing",), {}), (NamesakeError, ("any",), {}), (NeedsMore, (3,), {"reason": "why"})],
)
def test_unusual_exceptions_arrive_as_themselves(kind: Any, given: Any, named: Any) -> None:
    """With their type, text and attributes, and the traceback of the worker as their cause."""
    with ProcessPool(1) as pool:
        arrived = pool.submit(raise_it, kind, *given, **named).exception(GUARD)
    error = kind(*given, **named)
    assert (type(arrived), str(arrived)) == (kind, str(error))
    assert getattr(arrived, "code", None) == getattr(error, "code", None)
    assert isinstance(arrived.__cause__, RemoteTraceback)
    assert "raise_it" in str(arrived.__cause__)


def boom(*_: Any) -> Any:
    raise RuntimeError("raised by a method of the exception")


HOSTILE: dict[str, dict[str, Any]] = {
    "its text ends the process": {"__str__": lambda _: leave(), "__repr__": lambda _: leave()},
    "its text is none": {"__str__": lambda _: None},
    "its truth value": {"__bool__": boom},
    "its length": {"__len__": boom},
    "a missing attribute": {"__getattr__": boom},
    "any attribute": {"__getattribute__": boom},
    "setting an attribute": {"__setattr__": boom, "__delattr__": boom},
    "its cause": {"__cause__": property(boom)},
    "its cause is no exception": {"__cause__": "none"},
    "its context": {"__context__": property(boom), "__suppress_context__": property(boom)},
    "its traceback": {"__traceback__": property(boom)},
    "its notes": {"__notes__": property(boom), "add_note": boom},
    "its arguments": {"args": property(boom)},
    "its attributes": {"__dict__": property(boom)},
    "comparing it": {"__eq__": boom, "__hash__": boom},
    "it cannot be hashed": {"__hash__": None},
    "pickling it ends the process": {"__reduce_ex__": lambda *_: leave()},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_an_exception_whose_own_methods_raise_arrives_as_itself(what: str) -> None:
    """Its worker goes on, and where it was raised is known."""
    kind = type("HostileError", (Exception,), HOSTILE[what])
    with ProcessPool(1) as pool:
        worker = pool.submit(os.getpid).result(GUARD)
        arrived = pool.submit(raise_it, kind, "text").exception(GUARD)
        assert type(arrived).__name__ == "HostileError"
        assert pool.submit(os.getpid).result(GUARD) == worker
    told = BaseException.__dict__["__cause__"].__get__(arrived)
    assert isinstance(told, RemoteTraceback)
    assert "in raise_it" in str(told)


class Unspeakable(Exception):
    """Cannot even be described."""

    def __str__(self) -> str:
        raise KeyboardInterrupt


def test_an_exception_that_cannot_be_described_costs_no_worker() -> None:
    """What is known of it is its type."""
    with ProcessPool(1) as pool:
        worker = pool.submit(os.getpid).result(GUARD)
        arrived = pool.submit(raise_it, Unspeakable).exception(GUARD)
        assert isinstance(arrived, RemoteError)
        assert "Unspeakable, which cannot be sent: KeyboardInterrupt()" in str(arrived)
        assert pool.submit(os.getpid).result(GUARD) == worker


def test_the_whole_chain_of_an_exception_arrives() -> None:
    """What it was raised from, with notes, as exceptions; the worker's traceback of all is at the end of the chain."""
    with ProcessPool(1) as pool:
        third = pool.submit(raise_chain).exception(GUARD)
    assert isinstance(third, NeedsMore)
    second = third.__cause__
    assert isinstance(second, ValueError)
    assert second.__notes__ == ["a note"]
    first = second.__cause__
    assert isinstance(first, KeyError)
    told = str(first.__cause__)
    assert all(part in told for part in ("KeyError: 'first'", "ValueError: second", "NeedsMore: third (3)"))


@pytest.mark.parametrize("method", METHODS)
def test_arguments_are_released_when_the_call_has_ended(method: str) -> None:
    """Neither the pool nor its worker keeps the argument of a call: here, once the future is released as well."""

    class Payload:
        pass

    with ProcessPool(1, method) as pool:
        payload = Payload()
        reference = weakref.ref(payload)
        future = pool.submit(type, payload)
        del payload
        future.result(GUARD)
        pool.submit(identity, 1).result(GUARD)
        del future
        gc.collect()
        wait_for(lambda: reference() is None)
        assert pool.submit(count_instances, "Payload").result(GUARD) == 0


def count_instances(name: str) -> int:
    gc.collect()
    return sum(type(found).__name__ == name for found in gc.get_objects())


def test_a_generator_as_a_result_is_refused_by_name() -> None:
    """What cannot be pickled is named, and the worker goes on."""
    with ProcessPool(1) as pool:
        error = pool.submit(make_generator).exception(GUARD)
        assert isinstance(error, TypeError)
        assert "generator" in str(error)
        assert goes_on(pool)


def make_generator() -> Any:
    return (n for n in range(3))


def test_the_recursion_limit_of_a_call() -> None:
    """Deep recursion in a call is its RecursionError, not a crash; data nested less deeply arrives."""
    nested: Any = None
    for _ in range(sys.getrecursionlimit() // 10):
        nested = [nested]
    with ProcessPool(1) as pool:
        assert isinstance(pool.submit(overflow).exception(GUARD), RecursionError)
        assert pool.submit(identity, nested).result(GUARD) == nested
