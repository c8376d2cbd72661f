"""What a run asks of its executor."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling.executors.adapter import MAX_LOOKED_AT, ExecutorAdapter
from amltk.scheduling.executors.registry import Capabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

Work = Future[Any]


def works(states: str) -> list[Work]:
    """Futures of an executor, oldest first: r(unning), p(ending) or d(one)."""
    made = []
    for state in states:
        work: Work = Future()
        if state in "rd":
            work.set_running_or_notify_cancel()
        if state == "d":
            work.set_result(None)
        made.append(work)
    return made


def found(states: str | Sequence[Work], *, workers: int | None = None, **claims: bool) -> list[int] | None:
    """The numbers of the calls found to be running."""
    executor: Any = Executor()
    if workers is not None:
        executor._max_workers = workers
    capabilities = Capabilities(kills_running=False, isolates_crashes=False, remote=False, **claims)
    pending = works(states) if isinstance(states, str) else states
    running = ExecutorAdapter(executor, capabilities, None, is_own=True).running_calls(lambda n: list(pending[:n]))
    return None if running is None else [pending.index(work) for work in running]


@pytest.mark.parametrize(
    ("states", "running"),
    [("", []), ("pppp", []), ("rrpp", [0, 1]), ("drdrp", [1, 3]), ("rr" + "p" * 10_000, [0, 1])],
)
def test_calls_that_are_begun_in_order_are_found_at_the_front(states: str, running: list[int]) -> None:
    """If calls start in order, the running ones are the oldest that have not ended."""
    assert found(states, workers=2, in_order=True) == running


def test_what_lies_ready_for_workers_does_not_run() -> None:
    """If a pool reports more running calls than it has workers, only as many as there are workers count."""
    assert found("drrrrrp", workers=2, in_order=True) == [1, 2]


def test_without_a_number_of_workers_the_first_that_waits_is_the_end() -> None:
    """If the number of workers is unknown, running calls are searched up to the first one that is not running."""
    assert found("rrr" + "p" * 10_000, in_order=True) == [0, 1, 2]


def test_of_an_unknown_executor_all_calls_are_asked() -> None:
    """For an executor that may start calls in any order, all calls are asked, and none is missed."""
    assert found("prpdrp") == [1, 4]


def test_of_too_many_calls_of_an_unknown_executor_nothing_is_told() -> None:
    """If only some of the calls could be asked, there is no number rather than one that may be too small."""
    assert found("r" + "p" * MAX_LOOKED_AT) is None


def test_an_executor_that_lists_what_runs_is_asked_for_that() -> None:
    """If the executor lists its running calls, no call is inspected."""
    executor: Any = Executor()
    executor.running_calls = lambda: ["this"]
    capabilities = Capabilities(kills_running=False, isolates_crashes=False, remote=False, lists_running=True)
    assert ExecutorAdapter(executor, capabilities, None, is_own=True).running_calls(lambda n: [][n]) == ["this"]


def test_an_executor_that_does_not_tell_is_not_asked() -> None:
    """If running calls are unknown, there is no number, whatever the futures say."""
    assert found("rr", tells_running=False) is None
