"""Random graphs of calls, some failing or cancelled: each ends once, and starts after its dependencies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amltk.exceptions import DependencyError
from amltk.scheduling import ExitState, Scheduler
from amltk.scheduling.plugins import Retry
from amltk.testing import SimulatedExecutor, run_in_virtual_time

ENDS = ["future-result", "future-exception", "future-cancelled"]

node = st.fixed_dictionaries(
    {
        "needs": st.lists(st.integers(0, 30), max_size=4),  # earlier calls, by distance
        "nested": st.booleans(),
        "seconds": st.integers(0, 3),
        "fails": st.integers(0, 9).map(lambda n: n == 0),
        "late": st.booleans(),  # submitted when another one ends, not at the start
        "retried": st.booleans(),
    }
)

cancellation = st.tuples(st.integers(0, 8), st.integers(0, 30))  # when, and which


@pytest.fixture(autouse=True, scope="module")
def one_slice() -> Iterator[None]:
    """Let a run handle all ready events without checking the clock, which would decide the order of timers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("amltk.scheduling._loop.inbox.MAX_SLICE_SECONDS", math.inf)
        yield


class Graph:
    """Runs a graph and records what happens."""

    def __init__(self, nodes: list[dict[str, Any]], cancellations: list[tuple[int, int]]) -> None:
        self.nodes = nodes
        self.executor = SimulatedExecutor(
            3, duration=lambda _, n, *__: nodes[n]["seconds"], outcome=lambda fn, *args: fn(*args)
        )
        self.scheduler = Scheduler(self.executor)
        self.plain = self.scheduler.task(self.compute)
        self.retrying = self.scheduler.task(self.compute, plugins=Retry(attempts=2, wait=1, jitter=0))
        self.futures: list[Any] = []
        self.events: list[tuple[str, int]] = []
        self.computed: list[int] = []
        self.scheduler.on_start(lambda: self.submit_until_late())
        for event in ("future-submitted", *ENDS):
            self.scheduler.emitter.on(event)(lambda future, *_, event=event: self.note(event, future))
        for seconds, which in cancellations:
            self.scheduler.on_start(lambda s=seconds, w=which: self.scheduler.call_later(s, self.cancel, w))

    def compute(self, number: int, needed: Any) -> int:
        self.computed.append(number)
        flat = [n for value in needed for n in (value if isinstance(value, list) else [value])]
        assert all(type(value) is int for value in flat), needed
        assert sorted(set(flat)) == sorted(set(self.needs(number)))
        if self.nodes[number]["fails"]:
            raise ValueError(number)
        return number

    def needs(self, number: int) -> list[int]:
        """The numbers of the calls that a call depends on."""
        return [number - 1 - back for back in self.nodes[number]["needs"] if back < number]

    def submit_until_late(self) -> None:
        while len(self.futures) < len(self.nodes) and self.scheduler.running():
            number = len(self.futures)
            node = self.nodes[number]
            given = [self.futures[n] for n in self.needs(number)]
            task = self.retrying if node["retried"] else self.plain
            self.futures.append(task.submit(number, [given] if node["nested"] else given))
            if node["late"]:
                return

    def note(self, event: str, future: Any) -> None:
        self.events.append((event, future.number))
        if event in ENDS:
            self.submit_until_late()

    def cancel(self, which: int) -> None:
        if which < len(self.futures):
            self.futures[which].cancel()

    def run(self, **options: Any) -> ExitState:
        given = {"display": False, "on_exception": "continue", "on_cancelled": "continue", "timeout": 500} | options
        return run_in_virtual_time(self.scheduler.async_run(**given))


def check_ends(graph: Graph) -> None:
    """Each call was submitted once and ended once, in dependency order."""
    submitted = [number for event, number in graph.events if event == "future-submitted"]
    assert submitted == list(range(len(graph.futures)))
    ended = [number for event, number in graph.events if event in ENDS]
    assert sorted(ended) == submitted
    assert graph.plain.n_pending == graph.retrying.n_pending == 0
    place = {number: at for at, number in enumerate(ended)}
    for number, future in enumerate(graph.futures):
        if not future.cancelled() and future.exception() is None:
            for needed in graph.needs(number):
                assert place[needed] < place[number]
                assert not graph.futures[needed].cancelled()
                assert graph.futures[needed].exception() is None


@settings(deadline=None, max_examples=60)
@given(st.lists(node, max_size=30), st.lists(cancellation, max_size=5))
def test_every_call_ends_once_and_begins_after_what_it_needs(nodes: Any, cancellations: Any) -> None:
    """A call whose dependency fails is not computed and fails; running the program twice gives the same."""
    graph = Graph(nodes, cancellations)
    graph.run()
    assert len(graph.futures) == len(nodes)
    check_ends(graph)
    for number, future in enumerate(graph.futures):
        without = [n for n in graph.needs(number) if graph.futures[n].cancelled() or graph.futures[n].exception()]
        if without and not future.cancelled():
            assert isinstance(future.exception(), DependencyError)
            assert graph.futures[future.exception().number] is not future
            assert future.exception().__cause__ is not None
            assert number not in graph.computed
        if not without and not future.cancelled():
            assert (future.exception() is not None) == graph.nodes[number]["fails"]
            assert number in graph.computed
    again = Graph(nodes, cancellations)
    again.run()
    assert again.events == graph.events
    assert again.computed == graph.computed


@settings(deadline=None, max_examples=40)
@given(st.lists(node, max_size=30), st.integers(0, 6), st.booleans())
def test_every_call_ends_once_however_the_run_ends(nodes: Any, seconds: int, wait: bool) -> None:
    """Every call ends once if the run is stopped at any time, with and without waiting."""
    graph = Graph(nodes, [])
    graph.scheduler.on_start(lambda: graph.scheduler.call_later(seconds + 0.5, graph.scheduler.stop))
    graph.run(wait=wait)
    check_ends(graph)


@settings(deadline=None, max_examples=25)
@given(st.lists(node, max_size=20))
def test_every_call_ends_once_if_the_first_error_ends_the_run(nodes: Any) -> None:
    """Every call ends once if the first error ends the run, as is the default."""
    graph = Graph(nodes, [])
    if any(node["fails"] for node in nodes):
        with pytest.raises(ValueError, match=r"^\d+\n"):
            graph.run(on_exception="raise")
    else:
        graph.run(on_exception="raise")
    check_ends(graph)
