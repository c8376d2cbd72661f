"""The error for an object that cannot be pickled says which object it is, and where in the call."""

from __future__ import annotations

import asyncio
import collections
import functools
import gzip
import io
import multiprocessing
import os
import queue
import re
import socket
import sqlite3
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from amltk.scheduling.executors._transfer.descriptors import refuse
from amltk.scheduling.executors._transfer.unpicklable import explain_call, explain_result, find
from amltk.scheduling.executors.process_pool._pickling.pickles import Probing
from amltk.scheduling.executors.remote.pickling import make_pickler

LOCK = threading.Lock()


class LendsNothing(Probing):
    """As if a library sent the calls to the workers."""

    def lend(self, descriptor: int) -> Any:
        return refuse(descriptor)


def pool_pickler(file: io.BytesIO) -> Any:
    return LendsNothing(file, None, set())


def without_reason(told: BaseException) -> str:
    """The message without the pickler's words, which differ."""
    return re.sub(r"\(.*\);", "", str(told))


def take(*_: Any, **__: Any) -> None:
    """A function that can be pickled, even if libraries have replaced builtins."""


def explained(fn: Any, *args: Any, **kwargs: Any) -> BaseException:
    """The error for a call that cannot be pickled."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        make_pickler(io.BytesIO()).dump((fn, args, kwargs))
    told, alike = (explain_call(caught.value, fn, args, kwargs, make) for make in (make_pickler, pool_pickler))
    assert without_reason(told) == without_reason(alike)
    return told


class Model:
    def __init__(self) -> None:
        self.weights = list(range(100))
        self._lock = threading.Lock()

    def train(self) -> None: ...


class Holder:
    def __init__(self, model: Any) -> None:
        self.name = "x"
        self.model = model


class Slotted:
    __slots__ = ("empty", "held")

    def __init__(self, held: Any) -> None:
        self.held = held


@dataclass
class Config:
    items: dict[str, Any] = field(default_factory=dict)


Pair = collections.namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("args", "kwargs", "place"),
    [
        ((1, LOCK), {}, "args[1], a _thread.lock,"),
        ((), {"lock": LOCK}, "kwargs['lock'], a _thread.lock,"),
        ((0, Holder(Model())), {}, "args[1].model._lock, a _thread.lock,"),
        (([{"config": Config({"a": [LOCK]})}],), {}, "args[0][0]['config'].items['a'][0], a"),
        ((Slotted(LOCK),), {}, "args[0].held, a"),
        ((Pair(1, LOCK),), {}, "args[0].right, a"),
        ((collections.defaultdict(list, a=LOCK),), {}, "args[0]['a'], a"),
        ((functools.partial(take, 1, end=LOCK),), {}, "args[0].keywords['end'], a"),
        ((Model().train,), {}, "args[0].__self__._lock, a"),
        ((LOCK.acquire,), {}, "args[0].__self__, a"),
        (({LOCK: 1},), {}, "args[0]{<unlocked _thread.lock object"),
        (({LOCK},), {}, "args[0]{...}, a"),
        ((threading.Event(),), {}, "args[0]._cond._lock, a"),
        ((queue.Queue(),), {}, "args[0].mutex, a"),
    ],
)
def test_the_place_is_told_as_one_would_write_it(args: Any, kwargs: dict[str, Any], place: str) -> None:
    """The place goes through containers, attributes, slots, fields, partials and bound methods."""
    error = explained(take, *args, **kwargs)
    assert type(error) is TypeError
    assert str(error).startswith(f"cannot send {place}")
    assert " to a worker process: it cannot be pickled (cannot pickle '_thread.lock' object); create it where" in str(
        error
    )
    assert "cannot pickle '_thread.lock'" in str(error.__cause__)


def make(held: Any) -> Any:
    def run() -> Any:
        return held

    return run


def test_variables_of_closures_and_globals_are_told() -> None:
    """The error names the function that uses them: closures, lambdas, functions they use, and default values."""
    assert "variable held in the closure of make.<locals>.run, a _thread.lock" in str(explained(make(LOCK)))
    assert "variable held._lock in the closure of make.<locals>.run" in str(explained(make(Model())))
    assert "variable held in the closure of make.<locals>.run" in str(explained(take, make(make(LOCK))))
    lock = threading.Lock()
    assert "variable lock in the closure of test_" in str(explained(lambda: [lock for _ in range(3)]))
    assert "fn.__defaults__[0], a" in str(explained(lambda lock=LOCK: lock))
    script = {"__name__": "__main__", "LOCK": LOCK, "CONFIG": {"lock": LOCK}}
    exec(
        "def train():\n    return [LOCK for _ in range(3)]\n"
        "def helper():\n    return CONFIG\n"
        "def uses():\n    return helper()\n"
        "class Net:\n    def fit(self):\n        return LOCK\n",
        script,
    )
    assert "global LOCK of __main__, used by train, a _thread.lock" in str(explained(script["train"]))
    assert "global CONFIG['lock'] of __main__, used by helper, a" in str(explained(script["uses"]))
    assert "global LOCK of __main__, used by Net.fit, a" in str(explained(take, script["Net"]()))


@pytest.mark.parametrize(
    ("make_it", "remedy"),
    [
        (lambda folder: gzip.GzipFile(folder / "x.gz", "wb"), "send the path"),
        (lambda folder: (folder / "file").open("w"), "send the path"),
        (lambda folder: (folder / "file").open("r"), "send the path"),
        (lambda folder: (folder / "file").open("wb"), "send the path"),
        (lambda folder: (folder / "file").open("rb", buffering=0), "send the path"),
        (lambda folder: socket.socket(), "with_processes() can send it"),
        (lambda folder: sqlite3.connect(folder / "x.db"), "create it where it is used"),
        (lambda folder: tempfile.NamedTemporaryFile(dir=folder), "send the path"),  # noqa: SIM115 - closed below
        (lambda folder: (n for n in range(3)), "send a list"),
        (lambda folder: [*os.scandir(folder)].pop(), "create it where it is used"),
        (lambda folder: multiprocessing.get_context("spawn").RLock(), "initargs"),
        (lambda folder: multiprocessing.get_context("spawn").SimpleQueue(), "initargs"),
    ],
)
def test_the_remedy_is_told(tmp_path: Path, make_it: Any, remedy: str) -> None:
    """Files, generators, and what `multiprocessing` shares each have a remedy."""
    (tmp_path / "file").touch()
    obj = make_it(tmp_path)
    try:
        error = explained(take, Holder(obj))
        assert str(error).startswith("cannot send args[0].model")
        assert remedy in str(error)
    finally:
        if hasattr(obj, "close"):
            obj.close()


def test_a_future_of_a_loop_is_told() -> None:
    """asyncio's objects cannot leave their process."""
    loop = asyncio.new_event_loop()
    try:
        assert "args[0].model, a _asyncio.Future" in str(explained(take, Holder(loop.create_future())))
    finally:
        loop.close()


class SaysNo:
    def __getstate__(self) -> Any:
        raise ValueError("not this one")


class CannotBeMade:
    def __reduce__(self) -> Any:
        raise TypeError("h5py objects cannot be pickled")


def test_what_an_object_says_itself_stays_what_it_is() -> None:
    """The object's own error gets a note that names the object; a `TypeError` is replaced by our error."""
    error = explained(take, [SaysNo()])
    assert repr(error) == "ValueError('not this one')"
    assert "cannot send args[0][0], a " in error.__notes__[-1]
    error = explained(take, [CannotBeMade()])
    assert str(error).startswith("cannot send args[0][0], a ")
    assert "h5py" in str(error)
    interruption = KeyboardInterrupt()
    assert explain_call(interruption, take, (LOCK,), {}, make_pickler) is interruption


def test_circles_and_depth_are_no_matter() -> None:
    """Objects that refer to themselves are visited once; too deep nesting is reported as such."""
    circle: list[Any] = []
    circle += [circle, {"again": circle}, Holder(circle)]
    assert find([("x", circle)], make_pickler) is None
    circle.append(LOCK)
    assert str(find([("x", circle)], make_pickler).place) == "x[3]"  # type: ignore[union-attr]
    deep: list[Any] = []
    for _ in range(200_000):  # since CPython 3.14, the stack is the limit
        deep = [deep]
    error = explained(take, 1, deep)
    assert str(error).startswith("cannot send args[1], a list, to a worker process: it cannot be pickled")
    assert "recursion" in str(error).lower()
    while deep:
        deep = deep.pop()


def test_the_nearest_one_is_told() -> None:
    """The shortest path to an object that cannot be pickled is reported, whatever comes first."""
    assert "args[1]," in str(explained(take, [[[[LOCK]]]], LOCK))


def test_a_result_is_told_alike() -> None:
    """The error for a result is similar, with a place that starts with `result`."""
    result = {"model": Model()}
    error = explain_result(TypeError("x"), result, make_pickler)
    assert str(error).startswith("cannot send result['model']._lock, a _thread.lock, back from its worker process")
