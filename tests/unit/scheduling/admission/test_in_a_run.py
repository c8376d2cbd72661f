"""Calls of a run that wait for resources or for their turn."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Executor
from concurrent.futures import Future as Work
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import ResourceUnavailableError, WallTimeLimitError, WorkerLostError
from amltk.scheduling import ExitState, Future, Limiter, Limits, Resources, Retry, Scheduler, granted
from amltk.testing import ManualExecutor
from tests.helpers.gate import GUARD

if TYPE_CHECKING:
    from pathlib import Path


def work(number: int = 0) -> int:
    return number


def told(_: int = 0) -> dict[str, Any]:
    return dict(granted())


def sleep_long() -> None:
    time.sleep(60)


class Scene:
    """A scheduler with a pool of two devices, on an executor whose calls the test completes."""

    def __init__(self, **resources: Any) -> None:
        self.executor = ManualExecutor()
        self.scheduler = Scheduler(self.executor, resources=resources or {"gpu": ["0", "1"]})
        self.steps: list[Any] = []

    def begun(self) -> list[int]:
        return [submission.args[0] for submission in self.executor.submissions]

    def run(self, *steps: Any, **options: Any) -> ExitState:
        """Run with steps; everything that happens is delivered between them."""
        remaining = list(steps)

        def take() -> None:
            if remaining:
                remaining.pop(0)()
                if remaining and self.scheduler.running():
                    self.scheduler.call_later(0, take)

        self.scheduler.on_start(take)
        return self.scheduler.run(timeout=GUARD, **options)

    def is_free(self) -> bool:
        self.scheduler.pools.collect()
        return all(pool.used == 0 for pool in self.scheduler.pools.named.values())


def test_calls_wait_until_what_they_need_is_free() -> None:
    """Two calls for one device start, the third when the first has ended; its waiting has an event and a reason."""
    scene = Scene()
    task = scene.scheduler.task(work, plugins=Resources(gpu=1))
    reasons: list[str] = []
    order: list[str] = []
    task.on_submitted(lambda *_: order.append("submitted"))
    task.on_waiting(lambda _, reason: (order.append("waiting"), reasons.append(reason)))

    def submit() -> None:
        for number in range(3):
            task.submit(number)
        assert scene.scheduler.explain(task.queue[0]).startswith("is with the executor")

    def end_one() -> None:
        assert scene.begun() == [0, 1]
        assert reasons == ["waits for gpu: 1 wanted, 0 of 2 free; 0 calls before it"]
        assert scene.scheduler.explain(task.queue[-1]) == reasons[0]
        assert order == ["submitted", "submitted", "submitted", "waiting"]
        scene.executor.finish(0)

    def end_all() -> None:
        assert scene.begun() == [0, 1, 2]
        scene.executor.finish(1)
        scene.executor.finish(2)

    assert scene.run(submit, end_one, end_all).code is ExitState.Code.EXHAUSTED
    assert scene.is_free()


def test_a_waiting_call_can_be_cancelled_and_never_reaches_the_executor() -> None:
    """A waiting call is cancelled at once, and what was reserved for it goes to others."""
    scene = Scene()
    task = scene.scheduler.task(work, plugins=Resources(gpu=2))
    cancelled: list[Future[Any]] = []
    task.on_cancelled(cancelled.append)
    futures: list[Future[Any]] = []

    def submit() -> None:
        futures.extend(task.submit(number) for number in range(3))
        assert futures[1].cancel()
        assert not futures[1].cancel()

    def end() -> None:
        assert cancelled == [futures[1]]
        scene.executor.finish(0)

    def end_last() -> None:
        assert scene.begun() == [0, 2]
        scene.executor.finish(1)

    scene.run(submit, end, end_last, on_cancelled="continue")
    assert scene.is_free()


def test_what_can_never_be_granted_is_an_error_of_submit() -> None:
    """A request that can never be granted raises in `submit`, which then accepts nothing."""
    scene = Scene(gpu=["0", "1"], memory="4 GB")
    much = scene.scheduler.task(work, plugins=Resources(gpu=3))
    odd = scene.scheduler.task(work, plugins=Resources(gpu=1.5))
    other = scene.scheduler.task(work, plugins=Resources(licence=1))

    @scene.scheduler.on_start
    def submit() -> None:
        with pytest.raises(ResourceUnavailableError, match=r"work asks for 3 of gpu, .*there are 2: 0, 1"):
            much.submit()
        with pytest.raises(ResourceUnavailableError, match="whole number"):
            odd.submit()
        with pytest.raises(ResourceUnavailableError, match="its pools are: gpu, memory"):
            other.submit()

    assert scene.scheduler.run(timeout=GUARD).code is ExitState.Code.EXHAUSTED
    assert scene.executor.submissions == []


def run_out_of_memory(_: int) -> None:
    raise MemoryError(f"{granted()['memory']} was too little")


def test_each_attempt_asks_anew() -> None:
    """An amount may grow with the attempts; if no pool has it, the call fails."""
    scheduler = Scheduler.with_sequential(resources={"memory": 10})
    asked: list[tuple[int, int]] = []

    def memory(call: Any) -> int:
        asked.append((call.attempt, call.args[0]))
        return int(4 * 2 ** (call.attempt - 1))

    task = scheduler.task(run_out_of_memory, plugins=[Resources(memory=memory), Retry(attempts=5, wait=0)])
    retried: list[str] = []
    errors: list[BaseException] = []
    task.on("retry")(lambda _, error, __: retried.append(str(error)))
    task.on_exception(lambda _, error: errors.append(error))
    scheduler.on_start(lambda: task.submit(7))
    scheduler.run(timeout=GUARD, on_exception="continue")
    assert retried[:2] == ["4 was too little", "8 was too little"]
    assert asked[:3] == [(1, 7), (2, 7), (3, 7)]
    assert isinstance(errors[0], ResourceUnavailableError)
    scheduler.pools.collect()
    assert scheduler.pools.named["memory"].used == 0


def test_a_lost_worker_gives_back_what_its_call_had() -> None:
    """Another call starts, and the attempt after the lost one makes a new request."""
    scene = Scene(gpu=["0"])
    task = scene.scheduler.task(work, plugins=[Resources(gpu=1), Retry(lost_workers=1)])
    results: list[int] = []
    task.on_result(lambda future, _: results.append(future.args[0]))

    def submit() -> None:
        for number in range(3):
            task.submit(number)

    def lose() -> None:
        scene.executor.fail(0, WorkerLostError("killed"))

    def end() -> None:
        if scene.executor.pending:
            scene.executor.finish(scene.executor.pending[0])

    scene.run(submit, lose, *[end] * 12)
    assert sorted(results) == [0, 1, 2]
    assert sorted(scene.begun()) == [0, 0, 1, 2]
    assert scene.is_free()


class Raising(Executor):
    """Rejects every second call."""

    def __init__(self) -> None:
        self.calls: list[Work[Any]] = []
        self.n = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Work[Any]:
        self.n += 1
        if self.n % 2 == 0:
            raise OSError("no")
        self.calls.append(Work())
        return self.calls[-1]


def test_an_executor_that_raises_costs_one_call_and_no_device() -> None:
    """The executor's exception goes to the submitter, or is the outcome of a call that has waited."""
    executor = Raising()
    scheduler = Scheduler(executor, resources={"gpu": ["0", "1"]})
    task = scheduler.task(work, plugins=Resources(gpu=1))
    errors: list[BaseException] = []
    task.on_exception(lambda _, error: errors.append(error))

    @scheduler.on_start
    def submit() -> None:
        task.submit(0)
        with pytest.raises(OSError, match="no"):
            task.submit(1)
        task.submit(2)
        task.submit(3)
        scheduler.call_later(0, lambda: executor.calls[0].set_result(0))
        scheduler.call_later(0.01, lambda: executor.calls[1].set_result(0))

    scheduler.run(timeout=GUARD, on_exception="continue")
    assert [type(error) for error in errors] == [OSError]
    scheduler.pools.collect()
    assert scheduler.pools.named["gpu"].used == 0


@pytest.mark.parametrize("wait", [True, False])
def test_a_stop_while_calls_wait_brings_each_to_its_end(*, wait: bool) -> None:
    """After a stop, waiting calls are computed if the run waits for accepted calls, and otherwise cancelled."""
    scene = Scene(gpu=["0"])
    task = scene.scheduler.task(work, plugins=Resources(gpu=1))
    ends: list[str] = []
    task.on_result(lambda *_: ends.append("result"))
    task.on_cancelled(lambda *_: ends.append("cancelled"))

    @scene.scheduler.on_start
    def submit() -> None:
        for number in range(3):
            task.submit(number)
        scene.scheduler.stop()

    @scene.scheduler.on_finishing
    def end() -> None:
        if wait:
            finish_next(0)

    def finish_next(n: int) -> None:
        scene.executor.finish(n)
        if n < 2:
            scene.scheduler.current_run.set_timer(0.01, lambda: finish_next(n + 1))

    scene.scheduler.run(timeout=GUARD, wait=wait)
    assert ends == (["result"] * 3 if wait else ["cancelled"] * 3)
    assert scene.is_free()


def test_calls_may_be_submitted_from_another_thread_and_by_callbacks() -> None:
    """Calls submitted from another thread or by callbacks wait like any other call."""
    scheduler = Scheduler.with_threads(4, resources={"licence": 1})
    task = scheduler.task(told, plugins=Resources(licence=1))
    results: list[Any] = []

    @task.on_result
    def note(_: object, result: Any) -> None:
        results.append(result)
        if len(results) == 1:
            task.submit()

    @scheduler.on_start
    def submit() -> None:
        thread = threading.Thread(target=lambda: [task.submit() for _ in range(3)])
        thread.start()
        thread.join()

    scheduler.run(timeout=GUARD)
    assert results == [{"licence": 1}] * 4
    assert dict(granted()) == {}


def test_shares_and_lists_are_told_to_the_function() -> None:
    """`granted` holds ids if the pool has ids, and amounts otherwise."""
    scheduler = Scheduler.with_sequential(resources={"gpu": ["a", "b"], "memory": "1 GB"})
    share = scheduler.task(told, plugins=Resources(gpu=0.5, memory="1 kB"))
    both = scheduler.task(told, plugins=Resources(gpu=2))
    none = scheduler.task(told, plugins=Resources(gpu=0))
    results: list[Any] = []
    for task in (share, both, none):
        task.on_result(lambda _, result: results.append(result))

    @scheduler.on_start
    def submit() -> None:
        for task in (share, both, none):
            task.submit()

    scheduler.run(timeout=GUARD)
    assert {"gpu": ("a",), "memory": 1000} in results
    assert {"gpu": ("a", "b")} in results
    assert {"gpu": ()} in results


def test_priority_decides_who_gets_the_worker() -> None:
    """Among waiting calls, including tasks without a priority, the highest comes first; it can be changed."""
    scheduler = Scheduler.with_sequential()
    low = scheduler.task(work)
    high = scheduler.task(work, priority=10)
    order: list[int] = []
    for task in (low, high):
        task.on_result(lambda _, result: order.append(result))

    @scheduler.on_start
    def submit() -> None:
        low.submit(0)
        low.submit(1)
        high.submit(2)
        late = low.submit(3)
        assert scheduler.explain(late) == "waits for a worker; 2 calls before it"
        assert late.set_priority(20)

    scheduler.run(timeout=GUARD)
    assert order == [0, 3, 2, 1]
    with pytest.raises(TypeError, match="priority="):
        scheduler.task(work, priority="high")  # type: ignore[call-overload]


def test_limiter_and_map_work_with_it() -> None:
    """Calls that pass a limiter still wait for resources; a map keeps its number of calls in flight."""
    scheduler = Scheduler.with_threads(4, resources={"licence": 2})
    task = scheduler.task(told, plugins=[Limiter(max_concurrent=3, on_limit="queue"), Resources(licence=1)])
    results: list[Any] = []
    task.on_result(lambda _, result: results.append(result))
    scheduler.on_start(lambda: task.map(range(10), in_flight=5))
    scheduler.run(timeout=GUARD)
    assert results == [{"licence": 1}] * 10


def test_what_needs_more_time_than_is_left_does_not_begin() -> None:
    """The run ends with its timeout when nothing else is left to do; no policy applies."""
    scene = Scene(licence=1)
    task = scene.scheduler.task(work, plugins=Resources(needs_time="20 min"))
    cancelled: list[Future[Any]] = []
    task.on_cancelled(cancelled.append)
    state = scene.run(lambda: task.submit(1))
    assert state.code is ExitState.Code.TIMEOUT
    assert len(cancelled) == 1
    assert scene.executor.submissions == []


def test_a_journal_tells_it_again_without_waiting(tmp_path: Path) -> None:
    """A replay grants nothing; afterwards, calls without an outcome wait for their resources."""

    def session(*, fails: bool) -> list[int]:
        scheduler = Scheduler.with_sequential(resources={"gpu": ["0"]})
        task = scheduler.task(work, plugins=Resources(gpu=1))
        seen: list[int] = []

        @scheduler.on_start
        def submit() -> None:
            for number in range(4):
                task.submit(number)

        @task.on_result
        def note(_: object, result: int) -> None:
            seen.append(result)
            if fails and len(seen) == 2:
                raise KeyboardInterrupt

        if fails:
            with pytest.raises(KeyboardInterrupt):
                scheduler.run(journal=tmp_path / "j")
        else:
            scheduler.run(journal=tmp_path / "j")
        scheduler.pools.collect()
        assert scheduler.pools.named["gpu"].used == 0
        return seen

    assert session(fails=True) == [0, 1]
    assert session(fails=False) == [0, 1, 2, 3]


@pytest.mark.parametrize("wrong", [{}, {"gpu": -1}, {"enforce": True, "gpu": 1}, {"gpu": 1, "needs_time": -1}])
def test_wrong_requests_are_refused_at_once(wrong: dict[str, Any]) -> None:
    """A plugin with an empty or invalid request raises where it is created."""
    with pytest.raises(ValueError, match=r"Resources|gpu=|enforce=|needs_time="):
        Resources(**wrong)


def test_threads_cannot_be_held_to_their_memory() -> None:
    """`enforce` needs processes."""
    scheduler = Scheduler.with_threads(1, resources={"memory": "1 GB"})
    with pytest.raises(ValueError, match="with_processes"):
        scheduler.task(work, plugins=Resources(memory="1 MB", enforce=True))
    scheduler.close()


def test_what_an_earlier_run_has_left_running_still_has_its_resources() -> None:
    """A call of the next run waits for an earlier run's running call, and starts when that ends."""
    go_on = threading.Event()
    begun = threading.Event()
    seen: list[bool] = []

    def hold() -> None:
        begun.set()
        go_on.wait(GUARD)

    def look() -> None:
        seen.append(go_on.is_set())

    scheduler = Scheduler.with_threads(2, resources={"licence": 1})
    holding = scheduler.task(hold, plugins=Resources(licence=1))
    looking = scheduler.task(look, plugins=Resources(licence=1))
    jobs = [holding, looking]

    @scheduler.on_start
    def submit() -> None:
        jobs.pop(0).submit()
        if not jobs:  # in the second run
            scheduler.call_later(0.01, go_on.set)
        else:
            scheduler.call_later(0, stop_when_begun)

    def stop_when_begun() -> None:
        if begun.is_set():
            scheduler.stop()
        else:
            scheduler.call_later(0.01, stop_when_begun)

    scheduler.run(timeout=GUARD, wait=False)
    scheduler.run(timeout=GUARD)
    assert seen == [True]


def test_limits_hold_for_calls_that_wait_for_their_turn() -> None:
    """A priority does not bypass other plugins."""
    scheduler = Scheduler.with_processes(1)
    limited = scheduler.task(sleep_long, plugins=Limits(wall_time=0.2), priority=1)
    errors: list[BaseException] = []
    limited.on_exception(lambda _, error: errors.append(error))
    scheduler.on_start(lambda: limited.submit())
    scheduler.run(timeout=60, on_exception="continue")
    assert [type(error) for error in errors] == [WallTimeLimitError]


class Inline(Executor):
    """Computes inside `submit`."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Work[Any]:
        done: Work[Any] = Work()
        done.set_result(fn(*args, **kwargs))
        return done


def test_calls_that_submit_within_submit_all_end() -> None:
    """An executor that computes inside `submit` re-enters the run in the middle of a submission."""
    scheduler = Scheduler(Inline(), resources={"licence": 1})

    def nest(depth: int) -> int:
        if depth:
            task.submit(depth - 1)
        return depth

    task = scheduler.task(nest, plugins=Resources(licence=1))
    results: list[int] = []
    task.on_result(lambda _, result: results.append(result))

    @scheduler.on_start
    def submit() -> None:
        task.submit(3)
        task.submit(2)

    scheduler.run(timeout=GUARD)
    assert sorted(results) == [0, 0, 1, 1, 2, 2, 3]
    scheduler.pools.collect()
    assert scheduler.pools.named["licence"].used == 0
