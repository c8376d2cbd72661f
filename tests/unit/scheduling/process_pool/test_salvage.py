"""What workers have of a piece in which an object cannot be unpickled: that object is broken, and no other."""

from __future__ import annotations

import io
import itertools
import pickle
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amltk.scheduling.executors.process_pool._pickling import worker_state

_numbers = itertools.count(1_000_000)


def fail(*_: Any) -> Any:
    raise ArithmeticError("on purpose")


class NeverMade:
    """Cannot be made by `__new__`, with names of arguments or without."""

    def __new__(cls, *_: Any, name: str = "") -> NeverMade:
        del name
        fail()
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return vars(self)["given"]

    def __getstate__(self) -> None:
        return None


class Made:
    """Fails in another way when it is unpickled."""

    def __init__(self, how: str = "", *parts: Any) -> None:
        self.how = how
        self.parts = parts

    def __setstate__(self, state: Any) -> None:
        fail(state)

    def __reduce__(self) -> Any:
        return {
            "is made by a call": (fail, self.parts),
            "gets its state": (Made, (), {"parts": self.parts}),
            "gets items": (Sequence, (), None, iter(self.parts)),
            "gets an item": (Sequence, (), None, iter(self.parts[:1])),
            "gets pairs": (Sequence, (), None, None, iter([(part, part) for part in self.parts])),
            "gets a pair": (Sequence, (), None, None, iter([(1, part) for part in self.parts[:1]])),
        }[self.how]


def make(way: str, *parts: Any) -> Any:
    """An object that cannot be unpickled, since it fails in this way."""
    if way not in BY_NEW:
        return Made(way, *parts)
    made = object.__new__(NeverMade)
    vars(made)["given"] = (parts, BY_NEW[way])
    return made


class Sequence(list[Any]):
    """Refuses to be filled."""

    append = extend = __setitem__ = fail


class Refers(pickle.Pickler):
    """Refers to an object that no worker has."""

    def persistent_id(self, obj: Any) -> int | None:
        return 999_999 if isinstance(obj, deque) else None


BY_NEW: dict[str, dict[str, Any]] = {"is made by __new__": {}, "is made by __new__ with names": {"name": "any"}}

WAYS = [
    "is made by a call",
    *BY_NEW,
    "gets its state",
    "gets items",
    "gets an item",
    "gets pairs",
    "gets a pair",
]

CONTAINERS: dict[str, Any] = {
    "itself": lambda bad, *_: bad,
    "a list": lambda bad, one, two: [one, bad, two],
    "a list with one item": lambda bad, *_: [bad],
    "a tuple with one item": lambda bad, *_: (bad,),
    "a tuple with two items": lambda bad, one, _: (one, bad),
    "a tuple with three items": lambda bad, one, two: (one, bad, two),
    "a longer tuple": lambda bad, one, two: (one, two, bad, one),
    "a set": lambda bad, *_: {1, bad},
    "a frozenset": lambda bad, *_: frozenset({1, bad}),
    "a dict": lambda bad, one, two: {1: one, 2: bad, 3: two},
    "a dict with one item": lambda bad, *_: {1: bad},
    "arguments": lambda bad, one, two: slice(one, bad, two),
}


KINDS: list[Any] = [list, tuple, lambda parts: dict(enumerate(parts)), lambda parts: [parts]]


def load(*objects: Any) -> list[Any]:
    """What a worker has of objects that are sent as one piece: each of them, or its error."""
    file = io.BytesIO()
    pickler = Refers(file, 5)
    header = []
    for obj in objects:
        at = file.tell()
        pickler.dump(obj)
        header.append((next(_numbers), file.tell() - at, "", "", 0))
    worker_state.load(number := next(_numbers), pickle.dumps(header) + file.getvalue())
    try:
        return [attempt(entry[0]) for entry in header]
    finally:
        worker_state.forget(number)


def attempt(number: int) -> Any:
    try:
        return worker_state.definition(number)
    except Exception as error:
        return error


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("way", WAYS)
def test_an_object_that_cannot_be_unpickled_breaks_what_has_it_and_nothing_else(way: str, container: str) -> None:
    """However it fails, and whatever it is in: the others are right, and share what they share in the program."""
    before, within, after = ["before"], ["within"], ["after"]
    many = [[f"row {n}"] for n in range(50)]
    bad = CONTAINERS[container](make(way, within, ("new", within)), within, before)
    loaded = load([before], bad, [before, within, after], [many, many[7], within], {"has": bad}, (after, many))
    assert [type(loaded[1]), type(loaded[4])] == [ArithmeticError, ArithmeticError]
    (first,), _, (known, inner, last), (rows, seventh, again), _, (same, both) = loaded
    assert (first, inner, last, rows) == (before, within, after, many)
    assert known is first
    assert again is inner
    assert seventh is rows[7]
    assert same is last
    assert both is rows


def test_what_refers_to_something_that_is_not_there_breaks_alone() -> None:
    """Here to an object that was not sent."""
    shared = ["shared"]
    loaded = load([shared], [shared, deque()], [shared, make("is made by a call")], (shared, shared))
    assert [type(one) for one in loaded] == [list, KeyError, ArithmeticError, tuple]
    assert loaded[3] == (shared, shared)
    assert loaded[3][0] is loaded[3][1] is loaded[0][0]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_of_random_pieces_all_is_right_that_has_no_broken_object(data: st.DataObject) -> None:
    """Objects that share parts with one another, some of which cannot be unpickled."""
    leaves: list[Any] = [["leaf", n] for n in range(4)] + [("leaf", n) for n in range(2)] + ["text", 7]
    bad = [make(way, leaves[0]) for way in WAYS]
    holds_bad = {id(one) for one in bad}
    known = [*leaves, *bad]
    objects = []
    for _ in range(data.draw(st.integers(2, 8))):
        parts = data.draw(st.lists(st.sampled_from(known), max_size=5))
        made = data.draw(st.sampled_from(KINDS))(parts)
        if any(id(part) in holds_bad for part in parts):
            holds_bad.add(id(made))
        known.append(made)
        objects.append(made)
    for obj, loaded in zip(objects, load(*objects), strict=True):
        if id(obj) in holds_bad:
            assert isinstance(loaded, ArithmeticError)
        else:
            assert loaded == obj


def test_a_pickle_that_ends_too_early_breaks_all_that_comes_after_it() -> None:
    """From there on, no reference is certain: an error is better than a wrong object."""
    pickles = [pickle.dumps(obj) for obj in (["first"], ["second"], ["third"])]
    pickles[1] = pickles[1][:-3] + b"\xff\xff."
    header = [(next(_numbers), len(one), "", "", 0) for one in pickles]
    worker_state.load(number := next(_numbers), pickle.dumps(header) + b"".join(pickles))
    loaded = [attempt(entry[0]) for entry in header]
    worker_state.forget(number)
    assert loaded[0] == ["first"]
    assert all(isinstance(one, Exception) for one in loaded[1:])
