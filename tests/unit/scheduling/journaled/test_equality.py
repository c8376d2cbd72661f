"""What counts as equal arguments, and how a difference is described."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Journal, Scheduler
from amltk.scheduling._journal.equality import are_same, difference
from amltk.testing import SimulatedExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = [f"feature {n}" for n in range(30)]


@dataclass
class Config:
    """Contains what cannot be compared by `==`: an array, in which something is missing."""

    rate: float
    features: set[str]
    weights: Any = None


def set_in_another_order() -> set[str]:
    """A set that equals `set(NAMES)`, but has more room: its order is another one, and so is its pickle."""
    others = {str(n) for n in range(1000)}
    names = others | set(NAMES)
    names -= others  # in place
    return names


def holders() -> list[Callable[[set[str]], Any]]:
    np, pd = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    linear, pipeline = pytest.importorskip("sklearn.linear_model"), pytest.importorskip("sklearn.pipeline")
    gap = [1.0, float("nan")]
    return [
        lambda names: Config(0.1, names, np.array(gap)),
        lambda names: SimpleNamespace(names=names, weights=[np.array(gap)]),
        lambda names: (names, pd.DataFrame({"x": gap, "y": ["a", "b"]})),
        lambda names: (names, pd.Series(gap), pd.Index(["a", "b"]), np.float64("nan"), float("nan")),
        lambda names: {"names": names, "model": pipeline.make_pipeline(linear.Ridge(alpha=2.0))},
        lambda names: (names, np.array([1, "a", None], dtype=object)),
    ]


@pytest.mark.parametrize("n", range(6))
def test_a_set_beside_what_cannot_be_compared(n: int) -> None:
    """Objects are compared part by part, so that the order of a set in them does not matter."""
    holder = holders()[n]
    recorded = pickle.loads(pickle.dumps(holder(set(NAMES))))
    assert are_same(recorded, holder(set_in_another_order()))
    assert not are_same(recorded, holder({"another"}))


def test_the_order_of_a_dict() -> None:
    """A dict equals another one with the same items, as in Python; where order counts in Python, it counts here."""
    assert are_same({"a": [1], "b": 2}, {"b": 2, "a": [1]})
    from collections import OrderedDict

    assert not are_same(OrderedDict(a=1, b=2), OrderedDict(b=2, a=1))
    assert not are_same({"a": 1}, {"a": 1, "b": 2})


def test_what_is_no_difference_in_python() -> None:
    """Numbers of other types are other arguments, also in arrays."""
    np = pytest.importorskip("numpy")
    assert not are_same(1, 1.0)
    assert not are_same(np.array([1, 2]), np.array([1.0, 2.0]))
    assert not are_same(np.array([1.0, np.nan]), np.array([np.nan, 1.0]))


@pytest.mark.parametrize(
    ("recorded", "given", "text"),
    [
        ([1, {"rate": 0.1}], [1, {"rate": 0.2}], "args[1]['rate'] was 0.1, and is now 0.2"),
        ([Config(0.1, {"a"})], [Config(0.1, {"b"})], "args[0].features was {'a'}, and is now {'b'}"),
        ([1], [True], "args[0] was 1 (int), and is now True (bool)"),
        ([[1, 2]], [[1, 2, 3]], "args[0] was [1, 2], and is now [1, 2, 3]"),
        (["a" * 99], ["a" * 50 + "b" + "a" * 48], "and is now another str"),
    ],
)
def test_a_difference_says_where_it_is(recorded: Any, given: Any, text: str) -> None:
    """It names the part, and shows both values, or says that they only look alike."""
    assert text in str(difference(recorded, given, "args"))


def test_objects_that_contain_themselves() -> None:
    """They are compared as well."""
    recorded: list[Any] = [1]
    recorded.append(recorded)
    given: list[Any] = [1]
    given.append(given)
    assert are_same(recorded, given)
    given[0] = 2
    assert not are_same(recorded, given)


def test_a_branch_with_sets(tmp_path: Path) -> None:
    """After a branch, a call gets the result of an equal one although its set has another order; each result once."""
    computed: list[int] = []

    def compute(fn: Any, number: int, names: set[str]) -> int:
        computed.append(number)
        return number

    def search(names: set[str], *numbers: int) -> None:
        scheduler = Scheduler(SimulatedExecutor(2, outcome=compute))
        task = scheduler.task(lambda number, names: number)
        scheduler.on_start(lambda: [task.submit(number, names) for number in numbers])
        run_in_virtual_time(scheduler.async_run(journal=Journal(tmp_path, on_mismatch="branch"), display=False))

    search(set(NAMES), 1, 2, 2, 3)
    computed.clear()
    search(set_in_another_order(), 9, 2, 2, 2)
    assert computed == [9, 2]
