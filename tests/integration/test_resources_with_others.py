"""Resources together with everything else that affects when a call begins, where it runs and how it ends."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import DependencyError, WallTimeLimitError
from amltk.scheduling import Comm, ExitState, Limiter, Limits, Resources, Retry, Scheduler, granted
from tests.helpers import stand_in_gpu
from tests.helpers.gate import GUARD, Gate, pass_gate

if TYPE_CHECKING:
    from amltk.scheduling import Future

METHODS = ["forkserver", "spawn", "fork"]


def work_once(folder: str, number: int, comm: Comm) -> int:
    """Use the card; some first attempts crash, take too long, or raise."""
    with comm.open():
        comm.send(granted()["gpu"])
    assert stand_in_gpu.devices(folder) == granted()["gpu"]
    marker = Path(folder) / f"tried-{number}"
    if not marker.exists():
        marker.touch()
        if number % 4 == 1:
            os._exit(5)
        if number % 4 == 2:
            time.sleep(60)
        if number % 4 == 3:
            raise ValueError(number)
    return number


def total(numbers: list[int]) -> int:
    return sum(numbers)


def hold(folder: str, address: tuple[str, int]) -> tuple[str, ...]:
    seen = stand_in_gpu.devices(folder)
    return pass_gate(address, seen)  # type: ignore[no-any-return]


def is_free(scheduler: Scheduler) -> bool:
    scheduler.pools.collect()
    return not any(pool.used for pool in scheduler.pools.named.values())


@pytest.mark.parametrize("method", METHODS)
def test_all_at_once(tmp_path: Path, method: Any) -> None:
    """One-card calls go through a limiter, limits, retries, a map and a comm, and another call needs all cards."""
    scheduler = Scheduler.with_processes(3, mp_context=method, resources={"gpu": ["0", "1"], "licence": 1})
    task = scheduler.task(
        work_once,
        plugins=[
            Limiter(max_concurrent=3, on_limit="queue"),
            Resources(gpu=1),
            Limits(wall_time=4),  # on a busy machine, others than those that sleep may exceed it as well
            Retry(on=(ValueError, WallTimeLimitError), attempts=20, wait=0, lost_workers=3),
            Comm.Plugin(parameter_name="comm"),
        ],
    )
    gather = scheduler.task(total, plugins=Resources(gpu=2, licence=1), priority=1)
    cards: set[Any] = set()
    results: list[int] = []
    task.on("comm-message")(lambda message: cards.add(message.data))
    task.on_result(lambda _, number: results.append(number))
    sums: list[int] = []
    gather.on_result(lambda _, result: sums.append(result))

    @scheduler.on_start
    def launch() -> None:
        gather.submit([task.submit(str(tmp_path), number) for number in range(2)])
        task.map([str(tmp_path)] * 6, range(2, 8), in_flight=4)

    state = scheduler.run(timeout=GUARD, journal=tmp_path / "journal")
    assert state.code is ExitState.Code.EXHAUSTED
    assert sorted(results) == list(range(8))
    assert sums == [1]
    assert cards == {("0",), ("1",)}
    assert is_free(scheduler)


@pytest.mark.parametrize("wait", [True, False])
def test_a_stopped_run_gives_everything_back(tmp_path: Path, wait: bool) -> None:
    """Calls waiting for a card, or for a call that has one, complete if the run waits; the next run has all cards."""
    scheduler = Scheduler.with_processes(2, resources={"gpu": ["0"]})
    task = scheduler.task(hold, plugins=Resources(gpu=1))
    after = scheduler.task(len, plugins=Resources(gpu=1))
    outcomes: list[str] = []
    futures: list[Future[Any]] = []
    with Gate() as gate:

        def launch() -> None:
            futures.append(task.submit(str(tmp_path), gate.address))
            futures.append(task.submit(str(tmp_path), gate.address))
            futures.append(after.submit(futures[-1]))
            scheduler.call_later(0.0, stop_when_there)

        def stop_when_there() -> None:
            if not gate.pids:
                scheduler.call_later(0.01, stop_when_there)
                return
            if wait:
                gate.open()
            scheduler.stop()

        def check_again() -> None:
            outcomes.clear()
            gate.open()
            futures.append(task.submit(str(tmp_path), gate.address))

        first = scheduler.emitter.register("start", launch)
        scheduler.on_future_result(lambda *_: outcomes.append("result"))
        scheduler.on_future_cancelled(lambda _: outcomes.append("cancelled"))
        assert scheduler.run(timeout=GUARD, wait=wait).code is ExitState.Code.STOPPED
        assert outcomes == (["result"] * 3 if wait else ["cancelled"] * 3)
        first.end()
        scheduler.on_start(check_again)
        assert scheduler.run(timeout=GUARD).code is ExitState.Code.EXHAUSTED
        assert outcomes == ["result"]
    assert is_free(scheduler)


def test_what_needs_a_cancelled_call_takes_no_card(tmp_path: Path) -> None:
    """A call waiting for a card is cancelled, and the call that needs its result ends; others get the card."""
    scheduler = Scheduler.with_processes(2, resources={"gpu": ["0"]})
    task = scheduler.task(hold, plugins=Resources(gpu=1))
    after = scheduler.task(len, plugins=Resources(gpu=1))
    errors: list[BaseException] = []
    lengths: list[int] = []
    after.on_exception(lambda _, error: errors.append(error))
    after.on_result(lambda _, length: lengths.append(length))
    with Gate() as gate:

        @scheduler.on_start
        def launch() -> None:
            first, second = (task.submit(str(tmp_path), gate.address) for _ in range(2))
            after.submit(second)
            after.submit(first)
            assert second.cancel()
            gate.open()

        scheduler.run(timeout=GUARD, on_cancelled="continue")
    assert [type(error) for error in errors] == [DependencyError]
    assert lengths == [1]
    assert is_free(scheduler)
