"""How runs end that do not end by themselves: broken pools, killed workers, the user's strategies, draining."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, NoReturn

import psutil
import pytest

from amltk.exceptions import ExecutorBrokenError, ExecutorShutdownError
from amltk.scheduling import ExitState, Scheduler, SequentialExecutor
from amltk.scheduling.executors.termination import kill_trees
from amltk.testing import EventRecorder
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.script import Script, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Code = ExitState.Code

SPAWN = (
    # A process of its own session, started by a worker, that starts another one.
    "import os, subprocess, sys; from tests.helpers.gate import pass_gate;"
    " address = ('127.0.0.1', int(sys.argv[1])); depth = int(sys.argv[2]);"
    " depth and subprocess.Popen([sys.executable, '-c', os.environ['SPAWN'], sys.argv[1], str(depth - 1)]);"
    " pass_gate(address)"
)


def test_every_process_of_a_list_is_killed_however_it_is_given() -> None:
    """An iterable that can be read only once names as many processes as a list."""
    processes = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(3)]
    kill_trees(process.pid for process in processes)
    for process in processes:
        assert process.wait(GUARD) == -signal.SIGKILL
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate where work stops until the test opens it."""
    with Gate() as gate:
        yield gate


def double(x: int) -> int:
    return 2 * x


def die(how: str) -> NoReturn:
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def fail() -> NoReturn:
    raise LookupError("no licence")


def raise_broken() -> NoReturn:
    raise BrokenExecutor("of an executor that the computed function uses")


def ignore_signals_and_pass(address: tuple[str, int]) -> None:
    for signum in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        signal.signal(signum, signal.SIG_IGN)
    pass_gate(address)


def start_children_and_pass(address: tuple[str, int], how: str) -> None:
    if how == "fork":
        for _ in range(2):
            get_context("fork").Process(target=pass_gate, args=(address,)).start()
    else:
        command = [sys.executable, "-c", SPAWN, str(address[1]), "1"]
        path = os.pathsep.join(filter(None, sys.path))
        environment = {**os.environ, "SPAWN": SPAWN, "PYTHONPATH": path}
        subprocess.Popen(command, env=environment, start_new_session=True)
    pass_gate(address)


def is_alive(pid: int) -> bool:
    """Return whether a process is running; a zombie is not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def process_schedulers(workers: int = 2) -> list[Scheduler]:
    """Return a scheduler of the factory and one for each kind of pool that a user may bring."""
    contexts = (None, get_context("fork"), get_context("spawn"), get_context("forkserver"))
    return [
        Scheduler.with_processes(workers),
        *(Scheduler(ProcessPoolExecutor(workers, mp_context=context)) for context in contexts),
    ]


# ------------------------------------------------------------------------------------------------------- broken pools


@pytest.mark.parametrize("how", ["exit", "kill"])
@pytest.mark.parametrize(
    "policy", ["raise", "end", "continue", {BrokenExecutor: "continue"}, {Exception: "end"}], ids=str
)
def test_a_broken_pool_ends_the_run_whatever_the_policy(how: str, policy: Any) -> None:
    """A pool whose worker died ends the run with an error that says so; callbacks that resubmit do not loop forever."""
    scheduler = Scheduler(ProcessPoolExecutor(2))
    recorder = EventRecorder(scheduler)
    calls: list[bool] = []

    @scheduler.on_start
    def launch() -> None:
        for _ in range(10):
            scheduler.submit(die, how)

    @scheduler.on_future_done
    @scheduler.on_future_cancelled
    @scheduler.on_empty
    def refill(*_: Any) -> None:
        calls.append(scheduler.running())
        scheduler.submit(die, how)

    with pytest.raises(ExecutorBrokenError, match="ProcessPoolExecutor") as caught:
        scheduler.run(on_exception=policy, on_cancelled="continue")
    assert isinstance(caught.value.__cause__, BrokenExecutor)
    assert len(calls) <= 40
    counts = scheduler.event_counts
    endings = counts[scheduler.FUTURE_RESULT] + counts[scheduler.FUTURE_EXCEPTION] + counts[scheduler.FUTURE_CANCELLED]
    assert counts[scheduler.FUTURE_SUBMITTED] == endings
    assert recorder.names[-1] == "finished"
    assert counts[scheduler.STOP] == 1


def test_a_pool_that_broke_while_idle_ends_the_run() -> None:
    """A worker that dies between two calls is noticed by the next one, and ends the run."""
    scheduler = Scheduler(ProcessPoolExecutor(1))
    scheduler.on_start(lambda: scheduler.submit(os.getpid))

    @scheduler.on_future_result
    def kill(_: Any, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        scheduler.submit(double, 1)

    with pytest.raises(ExecutorBrokenError):
        scheduler.run(on_exception="continue", timeout=GUARD)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Scheduler.with_processes(1, initializer=fail),
        lambda: Scheduler.with_threads(1, initializer=fail),
        lambda: Scheduler(ProcessPoolExecutor(1, initializer=fail)),
        lambda: Scheduler(ThreadPoolExecutor(1, initializer=fail)),
    ],
    ids=["processes", "threads", "given-process-pool", "given-thread-pool"],
)
def test_a_failing_initializer_ends_the_run(make: Callable[[], Scheduler]) -> None:
    """Workers that cannot start break their executor, which ends the run instead of looping."""
    scheduler = make()
    scheduler.on_start(lambda: scheduler.submit(double, 1))
    scheduler.on_future_done(lambda _: scheduler.submit(double, 1))
    with pytest.raises(ExecutorBrokenError):
        scheduler.run(on_exception="continue", timeout=GUARD)


def test_an_initializer_is_called_with_its_arguments(gate: Gate) -> None:
    """`initializer` is called in each worker before its first call."""
    gate.open()
    scheduler = Scheduler.with_processes(1, initializer=pass_gate, initargs=(gate.address,))
    pids: list[int] = []
    scheduler.on_start(lambda: scheduler.submit(os.getpid))
    scheduler.on_future_result(lambda _, pid: pids.append(pid))
    scheduler.run()
    assert gate.pids == pids


def test_an_error_that_only_looks_like_a_broken_executor() -> None:
    """`BrokenExecutor` raised by a function over a healthy pool is an exception like any other."""
    scheduler = Scheduler(ProcessPoolExecutor(1))
    results: list[int] = []
    scheduler.on_start(lambda: scheduler.submit(raise_broken))
    scheduler.on_future_exception(lambda *_: scheduler.submit(double, 21))
    scheduler.on_future_result(lambda _, result: results.append(result))
    assert scheduler.run(on_exception="continue") == ExitState(Code.EXHAUSTED)
    assert results == [42]


def test_a_new_run_after_a_broken_pool() -> None:
    """A factory's scheduler has a fresh pool in its next run; a given pool that broke is rejected."""
    results: list[int] = []
    made, given = schedulers = (Scheduler.with_processes(1), Scheduler(ProcessPoolExecutor(1)))
    for scheduler in schedulers:
        calls = iter([(die, "kill"), (double, 21)])
        scheduler.on_start(lambda scheduler=scheduler, calls=calls: scheduler.submit(*next(calls)))
        scheduler.on_future_result(lambda _, result: results.append(result))
        with contextlib.suppress(ExecutorBrokenError):
            scheduler.run(on_exception="continue")
    assert results == []
    assert made.run() == ExitState(Code.EXHAUSTED)
    assert results == [42]
    with pytest.raises(ExecutorShutdownError):
        given.run()


# ----------------------------------------------------------------------------------------------------- without waiting


def test_a_backlog_of_ten_thousand_is_dropped(gate: Gate) -> None:
    """With `wait=False`, ten thousand pending calls are cancelled, each with its event, and none begins any more."""
    for scheduler in process_schedulers()[:2]:
        begun = len(gate.pids)
        submit = scheduler.submit
        scheduler.on_start(lambda submit=submit: [submit(pass_gate, gate.address) for _ in range(10_000)])
        gate.when_begun(begun + 2, lambda scheduler=scheduler: scheduler.call_later(0, scheduler.stop))
        assert scheduler.run(wait=False) == ExitState(Code.STOPPED)
        gate.wait_gone()
        assert len(gate.pids) == begun + 2
        counts = scheduler.event_counts
        assert counts[scheduler.FUTURE_SUBMITTED] == 10_000
        assert counts[scheduler.FUTURE_RESULT] == 0
        assert counts[scheduler.FUTURE_CANCELLED] + counts[scheduler.FUTURE_EXCEPTION] == 10_000
        assert counts[scheduler.FUTURE_CANCELLED] >= 9_990


def test_workers_of_every_start_method_are_killed(gate: Gate) -> None:
    """Running calls are killed with every start method, and are reported as cancelled, since the run ended them."""
    for n, scheduler in enumerate(process_schedulers(1), start=1):
        scheduler.on_start(lambda scheduler=scheduler: scheduler.submit(pass_gate, gate.address))
        gate.when_begun(n, scheduler.stop)
        assert scheduler.run(wait=False) == ExitState(Code.STOPPED)
        gate.wait_gone()
        assert not is_alive(gate.pids[-1])
        assert scheduler.event_counts[scheduler.FUTURE_CANCELLED] == 1
        assert scheduler.event_counts[scheduler.FUTURE_EXCEPTION] == 0


def test_workers_that_ignore_every_signal_are_killed(gate: Gate) -> None:
    """A call that ignores every ignorable signal is still ended."""
    scheduler = Scheduler.with_processes(1)
    scheduler.on_start(lambda: scheduler.submit(ignore_signals_and_pass, gate.address))
    gate.when_begun(1, scheduler.stop)
    scheduler.run(wait=False)
    gate.wait_gone()
    assert not is_alive(gate.pids[0])


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_children_of_workers_are_killed(gate: Gate, how: str) -> None:
    """Processes that a worker has started die with it: children, grandchildren, and those in a session of their own."""
    scheduler = Scheduler.with_processes(1)
    scheduler.on_start(lambda: scheduler.submit(start_children_and_pass, gate.address, how))
    gate.when_begun(3, scheduler.stop)
    scheduler.run(wait=False)
    gate.wait_gone()
    assert len(set(gate.pids)) == 3
    assert [pid for pid in gate.pids if is_alive(pid)] == []


def test_the_timeout_kills_work_that_would_never_end(gate: Gate) -> None:
    """`run(timeout, wait=False)` returns after `@timeout` although a call never ends, and the worker is gone."""
    scheduler = Scheduler.with_processes(1)
    recorder = EventRecorder(scheduler)
    scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
    assert scheduler.run(timeout=0.5, wait=False) == ExitState(Code.TIMEOUT)
    gate.wait_gone()
    assert recorder.names[2:4] == ["timeout", "finishing"]
    assert recorder.names[-1] == "finished"


def test_an_unknown_executor_is_left_with_its_work() -> None:
    """Calls in an executor that cannot be killed are reported as cancelled; the executor is shut down."""

    class Unknown(Executor):
        def __init__(self) -> None:
            self.asked: list[Any] = []

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_running_or_notify_cancel()
            return future

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            self.asked.append((wait, cancel_futures))

    executor = Unknown()
    scheduler = Scheduler(executor)
    scheduler.on_start(lambda: (scheduler.submit(double, 1), scheduler.stop()))
    assert scheduler.run(wait=False) == ExitState(Code.STOPPED)
    assert executor.asked == [(False, True)]
    assert scheduler.event_counts[scheduler.FUTURE_CANCELLED] == 1


# ------------------------------------------------------------------------------------------------------------- threads


def test_threads_are_not_killed_and_that_is_said_once(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """`wait=False` on threads returns at once, warns once that they keep running, and cancels the calls' futures."""
    scheduler = Scheduler.with_threads(2)
    scheduler.on_start(lambda: [scheduler.submit(pass_gate, gate.address) for _ in range(5)])
    gate.when_begun(2, lambda: scheduler.call_later(0, scheduler.stop))  # once all five are submitted
    with caplog.at_level(logging.WARNING):
        assert scheduler.run(wait=False) == ExitState(Code.STOPPED)
    (record,) = caplog.records
    assert "cannot be killed" in record.getMessage()
    assert gate.present == 2
    assert scheduler.event_counts[scheduler.FUTURE_CANCELLED] == 5


def test_idle_threads_are_no_reason_for_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """`wait=False` with idle threads logs nothing."""
    scheduler = Scheduler.with_threads(2)
    scheduler.on_start(lambda: scheduler.submit(double, 1))
    with caplog.at_level(logging.WARNING):
        assert scheduler.run(wait=False) == ExitState(Code.EXHAUSTED)
    assert [record.getMessage() for record in caplog.records] == []


def test_python_exits_after_the_work_of_threads(gate: Gate) -> None:
    """A program whose threads could not be killed exits when their work is done, as documented."""
    with Script(f"""
        from amltk.scheduling import Scheduler
        from tests.helpers.gate import pass_gate

        def work():
            pass_gate({gate.address})
            print("work is done")

        scheduler = Scheduler.with_threads(1)
        scheduler.on_start(lambda: scheduler.submit(work))
        print(scheduler.run(timeout=0.3, wait=False).code.name)
        print("main program is done")
        """) as script:
        script.wait_for("main program is done")
        assert script.process.poll() is None
        gate.open()
        ended = script.end()
    assert ended.code == 0
    assert ended.lines == ["TIMEOUT", "main program is done", "work is done"]
    assert ended.errors.count("cannot be killed") == 1
    assert "Traceback" not in ended.errors


@pytest.mark.parametrize(
    "expression",
    [
        "Scheduler.with_processes(2)",
        "Scheduler.with_sequential()",
        "Scheduler(ProcessPoolExecutor(2))",
        "Scheduler(ProcessPoolExecutor(2, mp_context=get_context('spawn')))",
        "Scheduler(ProcessPoolExecutor(2), terminate=kill)",
    ],
)
def test_python_exits_after_an_end_without_waiting(expression: str) -> None:
    """After `run(wait=False)`, a program exits by itself, without orphans and without output on stderr."""
    in_loop = "sequential" in expression
    ended = run_script(f"""
        import time
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        from amltk.scheduling import Scheduler

        def kill(executor):
            for process in executor._processes.values():
                process.kill()

        def work():
            time.sleep({0.01 if in_loop else 3600})

        if __name__ == "__main__":
            scheduler = {expression}
            scheduler.on_start(lambda: [scheduler.submit(work) for _ in range(500)])
            print(scheduler.run(timeout=0.5, wait=False).code.name)
            print(scheduler.event_counts[scheduler.FUTURE_CANCELLED] > 100)
        """)
    assert ended.lines == ["TIMEOUT", "True"]
    assert (ended.code, ended.errors) == (0, "")


# -------------------------------------------------------------------------------------------- strategies of the user


def test_the_users_strategy_is_called_instead_of_the_kill(gate: Gate) -> None:
    """`terminate=callable` is called once with the executor, off the loop's thread, and nothing else is killed."""
    calls: list[tuple[Executor, bool]] = []
    executor = ProcessPoolExecutor(1)
    scheduler = Scheduler(
        executor, terminate=lambda given: calls.append((given, threading.current_thread() is threading.main_thread()))
    )
    scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
    gate.when_begun(1, scheduler.stop)
    assert scheduler.run(wait=False) == ExitState(Code.STOPPED)
    assert calls == [(executor, False)]
    assert gate.present == 1
    assert scheduler.event_counts[scheduler.FUTURE_CANCELLED] == 1
    gate.open()
    executor.shutdown()


def test_the_users_strategy_may_kill(gate: Gate) -> None:
    """Calls that the user's strategy kills are reported as cancelled as well."""

    def kill(executor: Any) -> None:
        for process in executor._processes.values():
            process.kill()
        executor.shutdown()

    scheduler = Scheduler(ProcessPoolExecutor(1), terminate=kill)
    scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
    gate.when_begun(1, scheduler.stop)
    assert scheduler.run(wait=False) == ExitState(Code.STOPPED)
    gate.wait_gone()
    assert scheduler.event_counts[scheduler.FUTURE_CANCELLED] == 1


@pytest.mark.parametrize(
    "make", [Scheduler.with_processes, Scheduler.with_threads], ids=["with_processes", "with_threads"]
)
def test_the_users_strategy_is_not_called_where_the_run_waits(make: Callable[..., Scheduler]) -> None:
    """With `wait=True`, the executor is shut down in the ordinary way, without the strategy."""
    calls: list[Executor] = []
    scheduler = make(1, terminate=calls.append)
    scheduler.on_start(lambda: scheduler.submit(double, 1))
    assert scheduler.run() == ExitState(Code.EXHAUSTED)
    assert calls == []
    with pytest.raises(RuntimeError, match="shutdown"):
        scheduler.executor.submit(double, 1)


@pytest.mark.parametrize("policy", ["raise", "end", "continue"])
def test_a_strategy_that_raises_is_a_matter_of_policy(
    gate: Gate, policy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception from the user's strategy is treated like one from a callback; the run still ends in order."""
    error = LookupError("no such cluster")

    def terminate(_: Executor) -> None:
        raise error

    executor = ProcessPoolExecutor(1)
    scheduler = Scheduler(executor, terminate=terminate)
    recorder = EventRecorder(scheduler)
    scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
    gate.when_begun(1, scheduler.stop)
    if policy == "raise":
        with pytest.raises(LookupError, match="no such cluster"):
            scheduler.run(wait=False, on_callback_exception=policy)
    else:
        state = scheduler.run(wait=False, on_callback_exception=policy)
        assert state == ExitState(Code.STOPPED, error if policy == "end" else None)
    assert ("no such cluster" in caplog.text) == (policy == "continue")
    assert recorder.names[-1] == "finished"
    gate.open()
    executor.shutdown()


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("make", [ProcessPoolExecutor, ThreadPoolExecutor])
def test_an_executor_can_be_kept_open(make: Callable[..., Executor], gate: Gate, wait: bool) -> None:
    """`terminate=False` leaves the executor and its calls alone, and lets the scheduler run on it again."""
    with make(2) as executor:
        scheduler = Scheduler(executor, terminate=False)
        scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address, "late"), max_calls=1)
        if wait:
            gate.when_begun(1, gate.open)
        else:
            gate.when_begun(1, scheduler.stop)
        scheduler.run(wait=wait)
        if wait:
            gate.wait_gone()
        assert gate.present == (0 if wait else 1)
        assert executor.submit(double, 4).result(GUARD) == 8
        for _ in range(3):
            assert scheduler.run() == ExitState(Code.EXHAUSTED)
        assert scheduler.executor is executor
        gate.open()
        assert executor.submit(double, 5).result(GUARD) == 10


def test_a_factorys_executor_can_be_kept_open() -> None:
    """`with_processes(terminate=False)` keeps one pool of workers for several runs."""
    scheduler = Scheduler.with_processes(1, terminate=False)
    pids: list[int] = []
    scheduler.on_start(lambda: scheduler.submit(os.getpid))
    scheduler.on_future_result(lambda _, pid: pids.append(pid))
    executor = scheduler.executor
    for _ in range(3):
        scheduler.run()
    assert len(pids) == 3
    assert len(set(pids)) == 1
    assert scheduler.executor is executor
    executor.shutdown()


def test_one_executor_may_serve_two_schedulers() -> None:
    """Two schedulers share a pool that neither of them closes, and each sees only its own futures."""
    with ProcessPoolExecutor(2) as executor:
        results: dict[int, list[int]] = {}
        schedulers = [Scheduler(executor, terminate=False) for _ in range(2)]
        for n, scheduler in enumerate(schedulers):
            found = results.setdefault(n, [])
            scheduler.on_start(lambda s=scheduler, n=n: [s.submit(double, n) for _ in range(50)])
            scheduler.on_future_result(lambda _, result, found=found: found.append(result))

        async def main() -> None:
            await asyncio.gather(*(scheduler.async_run() for scheduler in schedulers))

        asyncio.run(main())
        assert results == {0: [0] * 50, 1: [2] * 50}


def test_a_sequential_executor_is_usable_by_itself() -> None:
    """A `SequentialExecutor` that is kept open computes in `submit` again once the run is over."""
    executor = SequentialExecutor()
    scheduler = Scheduler(executor, terminate=False)
    scheduler.on_start(lambda: scheduler.submit(double, 1))
    assert scheduler.run() == ExitState(Code.EXHAUSTED)
    assert executor.submit(double, 21).result(timeout=0) == 42
    executor.shutdown()


# ----------------------------------------------------------------------------------------------------------- draining


def test_timers_fire_while_running_work_is_waited_for(gate: Gate) -> None:
    """The loop is free while the run drains: here the call can complete only if a timer of the loop fires meanwhile."""
    scheduler = Scheduler.with_processes(1)
    recorder = EventRecorder(scheduler)
    scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
    gate.when_begun(1, lambda: scheduler.call_later(0, scheduler.stop))
    scheduler.on_finishing(lambda: asyncio.get_running_loop().call_later(0.05, gate.open))
    assert scheduler.run() == ExitState(Code.STOPPED)
    assert recorder.names[2:] == ["stop", "finishing", "future-done", "future-result", "finished"]


def test_timers_of_the_scheduler_fire_while_it_drains(gate: Gate) -> None:
    """`call_later` callbacks still fire while the run drains: here only that lets the call complete."""
    scheduler = Scheduler.with_processes(1)
    recorder = EventRecorder(scheduler)

    @scheduler.on_start
    def launch() -> None:
        scheduler.submit(pass_gate, gate.address)
        scheduler.call_later(0.05, gate.open)
        scheduler.stop()

    assert scheduler.run() == ExitState(Code.STOPPED)
    assert recorder.names == [
        *("start", "future-submitted", "stop", "finishing"),
        *("future-done", "future-result", "finished"),
    ]


def test_the_loop_is_free_while_the_executor_closes() -> None:
    """`Executor.shutdown` may block: here it returns only after the loop has had a turn."""

    class SlowToClose(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            turn = threading.Event()
            loop.call_soon_threadsafe(turn.set)
            assert turn.wait(GUARD)
            super().shutdown(wait=wait, cancel_futures=cancel_futures)

    async def main(wait: bool) -> ExitState:
        nonlocal loop
        loop = asyncio.get_running_loop()
        scheduler = Scheduler(SlowToClose(1))
        scheduler.on_start(lambda: scheduler.submit(double, 1))
        return await scheduler.async_run(wait=wait)

    loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]
    assert asyncio.run(main(wait=True)) == ExitState(Code.EXHAUSTED)
    assert asyncio.run(main(wait=False)) == ExitState(Code.EXHAUSTED)


def test_other_tasks_of_the_loop_go_on_while_the_run_drains(gate: Gate) -> None:
    """A task beside `async_run` gets turns during the drain, and results are delivered before `async_run` returns."""
    scheduler = Scheduler.with_processes(2)
    results: list[Any] = []
    finished: list[int] = []
    scheduler.on_start(lambda: [scheduler.submit(pass_gate, gate.address, n) for n in range(4)])
    scheduler.on_future_result(lambda _, result: results.append(result))
    scheduler.on_finished(lambda: finished.append(len(results)))
    gate.when_begun(2, lambda: scheduler.call_later(0, scheduler.stop))

    async def main() -> ExitState:
        finishing = asyncio.Event()
        scheduler.on_finishing(finishing.set)

        async def beside() -> None:
            await finishing.wait()
            await asyncio.sleep(0.05)
            assert not results
            gate.open()

        state, _ = await asyncio.gather(scheduler.async_run(), beside())
        assert sorted(results) == [0, 1, 2, 3]
        return state

    assert asyncio.run(main()) == ExitState(Code.STOPPED)
    assert finished == [4]
