"""On every executor, a future passed as an argument is computed first, and its result is passed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk.exceptions import DependencyError
from tests.contract import work

if TYPE_CHECKING:
    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities


def test_a_chain_and_a_fan(scheduler: Scheduler, capabilities: Capabilities) -> None:
    """Chains and fans of calls need no callbacks."""
    length = 30 if capabilities.remote else 1000
    last: list[Any] = []

    @scheduler.on_start
    def launch() -> None:
        one = scheduler.submit(work.double, 1)
        for _ in range(20):
            one = scheduler.submit(work.double, one)
        last.append(one)
        last.append(scheduler.submit(sum, [scheduler.submit(abs, -n) for n in range(length)]))  # type: ignore[misc]

    scheduler.run(display=False)
    assert last[0].result() == 2**21
    assert last[1].result() == sum(range(length))


def test_results_arrive_wherever_a_future_was(scheduler: Scheduler) -> None:
    """Futures are replaced as positional and keyword arguments, and in containers."""
    seen: list[Any] = []

    @scheduler.on_start
    def launch() -> None:
        one, two = scheduler.submit(work.double, "a"), scheduler.submit(work.double, [1])
        seen.append(scheduler.submit(work.echo, one, [two, {"x": (one,)}], fn=two, plain={"y": 1}))

    scheduler.run(display=False)
    assert seen[0].result() == (("aa", [[1, 1], {"x": ("aa",)}]), {"fn": [1, 1], "plain": {"y": 1}})


def test_what_needs_a_call_that_raises_is_not_computed(scheduler: Scheduler) -> None:
    """A call whose argument raised is not computed, nor are calls that depend on it; the others are."""
    futures: list[Any] = []

    @scheduler.on_start
    def launch() -> None:
        futures.append(scheduler.submit(work.raise_it, ValueError("no")))
        futures.extend(scheduler.submit(work.double, futures[-1]) for _ in range(2))
        futures.append(scheduler.submit(work.double, futures[-1]))
        futures.append(scheduler.submit(work.double, 2))

    assert scheduler.run(display=False, on_exception="continue").exceptions == 4
    for future in futures[1:4]:
        assert isinstance(future.exception(), DependencyError)
        assert isinstance(future.exception().__cause__, ValueError)
    assert futures[4].result() == 4
