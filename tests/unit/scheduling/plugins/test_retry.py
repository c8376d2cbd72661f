"""Retry: further attempts behind one future and one outcome."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from itertools import pairwise
from typing import Any

import pytest

from amltk.exceptions import ExecutorBrokenError, WorkerLostError, WorkerOutOfMemoryError, WorkerPreemptedError
from amltk.scheduling import ExitState, Retry
from tests.unit.program import RESULT, SUBMITTED, ComputeError, Program

Code = ExitState.Code


def failing(program: Program, *errors: BaseException, result: Any = None) -> list[float]:
    """Make each attempt fail at once with the next of these errors, then succeed; return the time of each attempt."""
    times: list[float] = []
    left = iter(errors)
    submit = program.executor.submit

    def attempt(*args: Any, **kwargs: Any) -> Any:
        future = submit(*args, **kwargs)
        times.append(program.scheduler.current_run.loop.time())
        n = len(times) - 1
        error = next(left, None)
        if error is None:
            program.executor.finish(n, result)
        else:
            program.executor.fail(n, error)
        return future

    program.executor.submit = attempt
    program.submit()
    return times


def test_one_future_and_one_ending() -> None:
    """A call that fails twice and then succeeds has the result as its only outcome."""
    program = Program(plugins=Retry(attempts=3))
    failing(program, ComputeError("first"), ComputeError("second"), result="third")
    assert program.run() == ExitState(Code.EXHAUSTED)
    assert program.trace == [
        *("start", *SUBMITTED, "work:retry", "work:retry", *RESULT),
        *("empty", "finishing", "finished"),
    ]
    future = program.recorder.records[1].args[0]
    retries = [record.args for record in program.recorder.records if record.event.name == "retry"]
    assert [(args[0], str(args[1]), args[2]) for args in retries] == [(future, "first", 2), (future, "second", 3)]
    assert future.result() == "third"


def test_gives_up() -> None:
    """When the attempts are used up, @gave-up comes before the last failure is delivered."""
    errors = [ComputeError(str(n)) for n in range(3)]
    program = Program(plugins=Retry(attempts=3))
    failing(program, *errors)
    with pytest.raises(ComputeError, match="2"):
        program.run()
    assert program.own == ["submitted", "retry", "retry", "gave-up", "done", "exception"]
    gave_up = next(record for record in program.recorder.records if record.event is Retry.GAVE_UP)
    assert gave_up.args[1:] == (errors[2], 3)


def test_waits_grow_up_to_a_bound() -> None:
    """Each wait is the factor times the previous one, up to the maximum."""
    program = Program(plugins=Retry(attempts=6, wait=1, factor=3, max_wait=10, jitter=0))
    times = failing(program, *(ComputeError() for _ in range(5)))
    program.run()
    assert times == [0, 1, 4, 13, 23, 33]


def test_jitter() -> None:
    """A wait is shortened by at most the given share; the same seed gives the same waits."""

    def waits(seed: int) -> list[float]:
        program = Program(plugins=Retry(attempts=20, wait=8, factor=1, jitter=0.25, seed=seed))
        times = failing(program, *(ComputeError() for _ in range(19)))
        program.run()
        return [later - earlier for earlier, later in pairwise(times)]

    first = waits(1)
    assert all(6 <= wait <= 8 for wait in first)
    assert len({round(wait, 6) for wait in first}) > 10
    assert first == waits(1)
    assert first != waits(2)


def test_only_what_it_is_for() -> None:
    """An error of another type is not retried but delivered at once."""
    program = Program(plugins=Retry(on=(OSError, KeyError)))
    times = failing(program, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        program.run()
    assert len(times) == 1
    assert program.own == ["submitted", "done", "exception"]


def test_lost_workers_are_counted_apart_and_tried_again_at_once() -> None:
    """A call survives its allowed number of lost workers, without a wait, in addition to its own failures."""
    program = Program(plugins=Retry(on=ComputeError, attempts=2, lost_workers=2, wait=50, jitter=0))
    times = failing(program, WorkerLostError(), ComputeError(), WorkerLostError(), result=1)
    program.run()
    assert times == [0, 0, 50, 50]
    program = Program(plugins=Retry(on=ComputeError, attempts=9, lost_workers=1))
    failing(program, WorkerLostError(), WorkerLostError("again"))
    with pytest.raises(WorkerLostError, match="again"):
        program.run()
    assert program.own == ["submitted", "retry", "gave-up", "done", "exception"]


def test_each_kind_of_loss_may_have_its_own_price() -> None:
    """The first class that a loss belongs to counts, apart from the others; a loss of no class is the outcome."""
    prices = {WorkerOutOfMemoryError: 0, WorkerPreemptedError: 2, WorkerLostError: 1}
    program = Program(plugins=Retry(lost_workers=prices))
    failing(program, WorkerPreemptedError(), WorkerLostError(), WorkerPreemptedError(), result=1)
    program.run()
    assert program.own == ["submitted", "retry", "retry", "retry", "done", "result"]
    program = Program(plugins=Retry(lost_workers=prices))
    failing(program, WorkerOutOfMemoryError("no"))
    with pytest.raises(WorkerOutOfMemoryError):
        program.run()
    program = Program(plugins=Retry(lost_workers={WorkerPreemptedError: 2}))
    failing(program, WorkerLostError("no"))
    with pytest.raises(WorkerLostError):
        program.run()
    assert program.own == ["submitted", "gave-up", "done", "exception"]


def test_lost_workers_may_be_told_at_once() -> None:
    """With `lost_workers=0` the first loss is the outcome."""
    program = Program(plugins=Retry(lost_workers=0))
    times = failing(program, WorkerLostError())
    with pytest.raises(WorkerLostError):
        program.run()
    assert len(times) == 1


def test_a_broken_executor_is_not_asked_again() -> None:
    """After a broken executor the run ends, whatever Retry would otherwise do."""
    program = Program(plugins=Retry(attempts=5))
    program.submit()
    program.at(1, program.executor.break_down)
    with pytest.raises(ExecutorBrokenError):
        program.run()
    assert "retry" not in program.own


def test_a_broken_executor_that_is_met_by_an_attempt() -> None:
    """An attempt that a broken executor rejects ends the call and the run."""
    program = Program(plugins=Retry(attempts=5, wait=2, jitter=0))
    program.submit()
    program.at(1, program.executor.fail, 0, ComputeError())
    program.at(2, program.executor.break_down)
    with pytest.raises(ExecutorBrokenError):
        program.run()
    (history,) = program.histories().values()
    assert history[-1] == "work:exception"
    error = next(r.args[1] for r in program.recorder.records if r.name == "work:exception")
    assert isinstance(error, BrokenExecutor)


@pytest.mark.parametrize("wait", [True, False])
def test_the_end_of_a_run_does_not_wait_for_an_attempt(wait: bool) -> None:
    """A call waiting for its next attempt at the timeout ends at once with its last failure."""
    program = Program(plugins=Retry(attempts=3, wait=3600, max_wait=3600))
    program.submit()
    program.at(1, program.executor.fail, 0, ComputeError("only one"))
    ended: list[float] = []
    program.scheduler.on_finished(lambda: ended.append(program.scheduler.current_run.loop.time()))
    state = program.run(timeout=5, wait=wait, on_exception="continue")
    assert state.code is Code.TIMEOUT
    assert ended == [5]
    assert program.own == ["submitted", "retry", "gave-up", "done", "exception"]
    assert len(program.executor.submissions) == 1


def test_no_attempt_after_stop() -> None:
    """A call that fails after a stop is not retried, although the run waits for it."""
    program = Program(plugins=Retry(attempts=3))
    program.submit()
    program.at(1, program.scheduler.stop)
    program.at(1, lambda: program.executor.fail(0, ComputeError()))
    program.run(on_exception="continue")
    assert program.own == ["submitted", "gave-up", "done", "exception"]


@pytest.mark.parametrize("when", [2, 4])
def test_cancelled_between_and_in_attempts(when: float) -> None:
    """A call can be cancelled while it waits for its next attempt and while that is running: one outcome."""
    program = Program(plugins=Retry(attempts=3, wait=2, jitter=0))
    futures: list[Any] = []
    program.scheduler.on_start(lambda: futures.append(program.task.submit()))
    program.at(1, program.executor.fail, 0, ComputeError())
    program.at(when, lambda: futures[0].cancel())
    assert program.run(on_cancelled="continue") == ExitState(Code.EXHAUSTED)
    assert program.own == ["submitted", "retry", "cancelled"]
    assert len(program.executor.submissions) == (1 if when < 3 else 2)


def test_one_plugin_for_several_tasks() -> None:
    """Each task delivers its own attempts."""
    retry = Retry(attempts=2, wait=0)
    program = Program(plugins=retry)
    other = program.scheduler.task(abs, plugins=retry)
    failing(program, ComputeError(), ComputeError())
    program.scheduler.on_start(lambda: other.submit(1))
    assert program.run().code is Code.EXHAUSTED
    assert program.task.event_counts[Retry.RETRY] == 1
    assert other.event_counts[Retry.RETRY] == 1
    assert retry.status() == "retried 2 · gave up 0"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"on": ValueError()}, TypeError, "on=ValueError()"),
        ({"on": KeyboardInterrupt}, TypeError, "Exception, a subclass"),
        ({"attempts": 0}, ValueError, "attempts=0: must be at least 1"),
        ({"attempts": 1.5}, TypeError, "whole number"),
        ({"lost_workers": -1}, ValueError, "lost_workers=-1: must be at least 0"),
        ({"lost_workers": {OSError: 1}}, TypeError, "lost_workers: the key <class 'OSError'> must be WorkerLostError"),
        ({"lost_workers": {WorkerLostError: -1}}, ValueError, "lost_workers[WorkerLostError]=-1: must be at least"),
        ({"wait": -1}, ValueError, "wait=-1"),
        ({"wait": float("nan")}, ValueError, "wait=nan"),
        ({"factor": 0.5}, ValueError, "factor=0.5: must be at least 1"),
        ({"jitter": 2}, ValueError, "jitter=2: must be from 0 to 1"),
        ({"max_wait": "1 parsec"}, ValueError, "number of seconds"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type[Exception], says: str) -> None:
    """Invalid arguments raise at once, with the value and what is allowed."""
    with pytest.raises(error) as caught:
        Retry(**options)
    assert says in str(caught.value)
