"""The registry's claims about an executor are exact: it can do neither more nor less."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import ExecutorBrokenError, ResourceUnavailableError, WorkerLostError
from amltk.scheduling import ExitState, Resources, Scheduler
from amltk.scheduling.executors import KINDS
from amltk.scheduling.executors.execution_info import execution_info, this_host
from amltk.scheduling.snapshot import Snapshot
from tests.contract import work
from tests.contract.backends import BACKENDS, ExecutorAdapter
from tests.contract.strangers import STRANGERS
from tests.helpers.gate import pass_gate
from tests.helpers.script import run_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.executors import Capabilities, ExecutorSpec
    from tests.helpers.gate import Gate


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_row_of_the_registry_is_held_to_the_contract(kind: ExecutorSpec) -> None:
    """Every executor has an entry in this suite, and each registry row with a factory is a method of `Scheduler`."""
    assert kind.name in {backend.kind for backend in (*BACKENDS, *STRANGERS)}
    if kind.factory is not None:
        assert callable(getattr(Scheduler, f"with_{kind.name}"))


def test_a_scheduler_knows_its_executor(backend: ExecutorAdapter, scheduler: Scheduler) -> None:
    """The registry row is found, by the factory or by the class of the user's executor."""
    assert scheduler.executor_kind.name == backend.kind
    scheduler.run()


def test_where_work_is_done(scheduler: Scheduler, capabilities: Capabilities) -> None:
    """Work runs in this process, and on the loop's thread, exactly where that is claimed."""
    places: list[tuple[int, int]] = []
    scheduler.on_start(lambda: [scheduler.submit(work.where) for _ in range(10)])
    scheduler.on_future_result(lambda _, result: places.append(result))
    scheduler.run()
    pid, thread = work.where()
    assert {place[0] == pid for place in places} == {capabilities.in_process}
    assert {place == (pid, thread) for place in places} == {capabilities.in_loop}
    assert capabilities.in_process or not capabilities.in_loop
    assert not (capabilities.in_process and capabilities.remote)


def test_where_and_when_work_is_done_is_told(scheduler: Scheduler, capabilities: Capabilities) -> None:
    """The future knows its worker's process and its times, exactly where that is claimed."""
    told: list[tuple[Any, int]] = []
    scheduler.on_start(lambda: [scheduler.submit(work.where) for _ in range(10)])
    scheduler.on_future_result(lambda future, result: told.append((execution_info(future.work), result[0])))
    scheduler.run()
    assert {here is not None for here, _ in told} == {capabilities.tells_execution}
    for here, pid in told:
        assert here is None or (here.host == this_host() and here.pid == pid and here.began <= here.ended)


def test_workers_work_at_the_same_time(make: Callable[..., Scheduler], gate: Gate, capabilities: Capabilities) -> None:
    """As many calls run at once as there are workers, except on the loop's own thread."""
    scheduler = make(workers=3)
    scheduler.on_start(lambda: [scheduler.submit(pass_gate, gate.address) for _ in range(3)])
    gate.when_begun(1 if capabilities.in_loop else 3, gate.open)
    assert scheduler.run().code is ExitState.Code.EXHAUSTED


def test_what_runs_is_counted_as_claimed(scheduler: Scheduler, gate: Gate, capabilities: Capabilities) -> None:
    """While all workers are blocked, as many calls count as running as there are workers, or None, as claimed."""
    workers = 1 if capabilities.in_loop else 2
    looks: list[Snapshot] = []

    def look() -> None:
        looks.append(Snapshot.of(scheduler))
        if looks[-1].counts.running in (workers, None):
            gate.open()
        else:  # the report may still be on its way from another machine
            scheduler.call_later(0.01, look)

    scheduler.on_start(lambda: [scheduler.submit(pass_gate, gate.address) for _ in range(10)])
    gate.when_begun(workers, look if capabilities.in_loop else lambda: scheduler.call_later(0, look))
    scheduler.run()
    counts = looks[-1].counts
    assert (counts.unended, counts.ended) == (10, 0)
    assert counts.running == (workers if capabilities.tells_running else None)
    assert len(looks[-1].calls) == (workers if capabilities.tells_running else 0)
    assert all(look.counts.running is None or look.counts.running <= workers for look in looks)
    assert len(looks) == 1 or capabilities.lists_running


def test_running_work_is_killed_as_claimed(scheduler: Scheduler, gate: Gate, capabilities: Capabilities) -> None:
    """After shutdown without waiting, running work is dead exactly where that is claimed."""
    scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
    gate.when_begun(1, lambda: (scheduler.stop(), gate.open() if capabilities.in_loop else None))
    scheduler.run(wait=False)
    if capabilities.in_loop:
        assert not capabilities.kills_running
    elif capabilities.kills_running:
        gate.wait_gone()
    else:
        assert gate.present == 1


def test_a_timeout_counts_from_the_first_worker_as_claimed(scheduler: Scheduler, capabilities: Capabilities) -> None:
    """With `timeout_from="first-worker"` it counts at once, or once a worker is up, exactly as claimed."""
    counted: list[bool] = []

    def look() -> None:
        counted.append(scheduler.current_run.deadline is not None)
        if counted[-1]:
            scheduler.stop()
        else:
            scheduler.call_later(0.01, look)

    scheduler.on_start(lambda: (look(), scheduler.submit(work.where) if scheduler.running() else None))
    scheduler.run(timeout="1 d", timeout_from="first-worker", end_on_empty=False)
    assert counted[0] is not capabilities.workers_come_later
    assert counted[-1]


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_crash_costs_as_much_as_claimed(
    backend: ExecutorAdapter, gate: Gate, capabilities: Capabilities, how: str
) -> None:
    """A worker that dies takes down its own work, or the executor, or the whole program, as claimed."""
    if capabilities.crash_ends_program:
        assert not capabilities.isolates_crashes
        code = crash_of_the_program(backend, how)
        assert code == {"exit": 3, "kill": -9}[how] if capabilities.in_process else code != 0
        return
    scheduler = backend.make()
    errors: list[BaseException] = []
    results: list[Any] = []

    @scheduler.on_start
    def launch() -> None:
        scheduler.submit(pass_gate, gate.address, "beside")
        scheduler.submit(work.die, how)

    @scheduler.on_future_exception
    def go_on(_: Any, error: BaseException) -> None:
        errors.append(error)
        gate.open()
        if capabilities.isolates_crashes:
            scheduler.submit(work.double, 21)

    scheduler.on_future_result(lambda _, result: results.append(result))
    if capabilities.isolates_crashes:
        assert scheduler.run(on_exception="continue").code is ExitState.Code.EXHAUSTED
        assert set(results) == {"beside", 42}
        (error,) = errors
        if capabilities.names_losses:
            assert isinstance(error, WorkerLostError)
            assert "die" in str(error)
    else:
        with pytest.raises(ExecutorBrokenError):
            scheduler.run(on_exception="continue")
        assert errors


def crash_of_the_program(backend: ExecutorAdapter, how: str) -> int:
    """The exit code of a program whose work kills its own process."""
    return run_script(f"""
        {backend.preparation.replace(chr(10), "; ")}
        from tests.contract import work
        workers = 2
        scheduler = {backend.expression}
        scheduler.on_start(lambda: scheduler.submit(work.die, {how!r}))
        scheduler.run(on_exception="continue")
        """).code


def test_objects_are_the_very_objects_as_claimed(scheduler: Scheduler, capabilities: Capabilities) -> None:
    """Arguments are passed by identity exactly where work is claimed to run in this process."""
    given: list[Any] = []
    seen: list[bool] = []
    scheduler.on_start(lambda: scheduler.submit(work.echo, given))
    scheduler.on_future_result(lambda _, result: seen.append(result[0][0] is given))
    scheduler.run()
    assert seen == [capabilities.shares_objects]


def test_the_thread_of_the_loop_is_the_callers(scheduler: Scheduler) -> None:
    """`run` uses no thread of its own: callbacks run on the thread that called it."""
    threads: list[int] = []
    scheduler.on_start(lambda: threads.append(threading.get_ident()))
    scheduler.run()
    assert threads == [threading.get_ident()]


def test_what_workers_declare_is_asked_for_as_claimed(scheduler: Scheduler, capabilities: Capabilities) -> None:
    """A resource that no worker has is reported missing at once: from the scheduler or from all workers, as claimed."""
    task = scheduler.task(work.double, plugins=Resources(tpu=1))
    said: list[str] = []

    @scheduler.on_start
    def ask() -> None:
        try:
            future = task.submit(1)
        except ResourceUnavailableError as error:
            said.append(str(error))
        else:  # a worker that has it may join
            said.append(scheduler.explain(future))
            future.cancel()

    scheduler.run(on_cancelled="continue")
    (text,) = said
    assert "tpu" in text
    assert ("worker of the" in text or "a job of the" in text) == capabilities.places_calls
    assert ("has no pool of that name" in text) != capabilities.places_calls
    assert capabilities.places_calls or not capabilities.holds_calls
