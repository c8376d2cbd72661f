"""Limiter(on_limit="queue"): calls beyond the limit are kept and submitted in order."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from amltk.scheduling import ExitState, Limiter, Plugin, Scheduler
from tests.unit.program import Program, work

Code = ExitState.Code


def queueing(**limits: Any) -> Limiter:
    return Limiter(on_limit="queue", **limits)


def submitted(program: Program) -> list[Any]:
    """The first argument of each call that the executor got, in order."""
    return [submission.args[0] for submission in program.executor.submissions]


def submit_at_start(program: Program, n: int) -> list[Any]:
    returned: list[Any] = []
    program.scheduler.on_start(lambda: returned.extend(program.task.submit(i) for i in range(n)), max_calls=1)
    return returned


def test_what_exceeds_is_submitted_in_order() -> None:
    """Never more than allowed are pending; everything is computed in the order of submission."""
    limiter = queueing(max_concurrent=2)
    program = Program(plugins=limiter)
    returned = submit_at_start(program, 6)
    pending: list[int] = []
    program.task.on_submitted(lambda *_: pending.append(program.task.n_running))
    for n in range(6):
        program.at(1 + n, program.executor.finish, n)
    assert program.run() == ExitState(Code.EXHAUSTED)
    assert submitted(program) == list(range(6))
    assert [future is None for future in returned] == [False, False, True, True, True, True]
    assert max(pending) == 2
    assert program.trace.count("empty") == 1
    assert program.task.event_counts[Limiter.CONCURRENT_LIMIT_REACHED] == 4
    assert limiter.n_kept == 0


def test_nothing_overtakes() -> None:
    """A call submitted by a callback while others are kept goes behind them, even if it would fit."""
    program = Program(plugins=queueing(max_concurrent=1))
    program.task.on_done(lambda _: program.task.submit("late"), max_calls=1)
    submit_at_start(program, 3)
    for n in range(4):
        program.at(1 + n, program.executor.finish, n)
    program.run()
    assert submitted(program) == [0, 1, 2, "late"]


def test_waits_for_other_tasks() -> None:
    """A call blocked by another task is submitted when that task has nothing pending, before @empty."""
    program = Program()
    limiter = queueing(not_while_running=program.task)
    other = program.scheduler.task(work, plugins=limiter)
    program.submit(2)
    program.scheduler.on_start(lambda: other.submit("other"))
    program.at(1, program.executor.finish, 0)
    program.at(2, program.executor.finish, 1)
    program.at(3, program.executor.finish, 2)
    program.run()
    assert other.event_counts[other.RESULT] == 1
    assert other.event_counts[Limiter.DISABLED_DUE_TO_RUNNING_TASK] == 1
    assert program.trace.count("empty") == 1


def test_calls_beyond_all_are_dropped() -> None:
    """Calls beyond `max_calls` are not kept: the event comes at once."""
    limiter = queueing(max_calls=3, max_concurrent=1)
    program = Program(plugins=limiter)
    submit_at_start(program, 5)
    for n in range(3):
        program.at(1 + n, program.executor.finish, n)
    program.run()
    assert submitted(program) == [0, 1, 2]
    assert program.task.event_counts[Limiter.CALL_LIMIT_REACHED] == 2
    assert limiter.status() == "calls 3/3 · concurrent 0/1"


def test_kept_for_the_next_run() -> None:
    """Calls kept at the end of a run are submitted first in the next one."""
    limiter = queueing(max_concurrent=1)
    program = Program(plugins=limiter, terminate=False)
    program.executor.shutdown = lambda **_: None
    submit_at_start(program, 3)
    program.at(1, program.scheduler.stop)
    program.at(2, program.executor.finish, 0)
    program.run()
    assert (submitted(program), limiter.n_kept) == ([0], 2)
    assert "kept 2" in limiter.status()
    program.scheduler.on_future_submitted(lambda _: program.executor.finish(-1))
    program.run()
    assert (submitted(program), limiter.n_kept) == ([0, 1, 2], 0)


def test_a_later_plugin_that_refuses_what_was_kept() -> None:
    """A kept call that a later plugin rejects is dropped, and those behind it proceed; rejected calls do not count."""

    class NoOnes(Plugin):
        def pre_submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            return None if args == (1,) else (fn, args, kwargs)

    limiter = queueing(max_concurrent=1, max_calls=9)
    program = Program(plugins=[limiter, NoOnes()])
    submit_at_start(program, 4)
    for n in range(3):
        program.at(1 + n, program.executor.finish, n)
    program.run()
    assert submitted(program) == [0, 2, 3]
    assert limiter.n_calls == 3


def test_from_other_threads() -> None:
    """Submissions from several threads respect the limit, and none is lost."""
    scheduler = Scheduler.with_threads(4)
    task = scheduler.task(lambda x: x, plugins=queueing(max_concurrent=3))
    results: list[int] = []
    most: list[int] = []
    task.on_result(lambda _, result: results.append(result))
    task.on_submitted(lambda *_: most.append(task.n_running))
    task.on_result(lambda *_: scheduler.stop() if len(results) == 200 else None)

    def produce(first: int) -> None:
        for n in range(50):
            task.submit(first + n)

    threads = [threading.Thread(target=produce, args=(50 * n,)) for n in range(4)]
    scheduler.on_start(lambda: [thread.start() for thread in threads])
    scheduler.run(end_on_empty=False)
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(200))
    assert max(most) <= 3


def test_bad_on_limit() -> None:
    """An invalid `on_limit` raises an error that says what is allowed."""
    with pytest.raises(ValueError, match=r"on_limit='keep': must be 'drop' or 'queue'"):
        Limiter(max_calls=1, on_limit="keep")  # type: ignore[arg-type]
