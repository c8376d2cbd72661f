"""Calls that are batch jobs of a real Slurm: what they get, how they end, and that they outlive their program."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import amltk.journal
from amltk.exceptions import JobRefusedError, WorkerLostError
from amltk.scheduling import Resources, Retry, Scheduler, granted
from tests.helpers import slurm as slurm_helper
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.script import Script, run_script
from tests.kills.slurm_jobs import kill, next_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OPTIONS: dict[str, Any] = {"partition": "debug", "mem": "100M", "chdir": "/", "poll_interval": 0.2}

PROGRAM = """
    import os
    import time
    from amltk.scheduling import Scheduler

    def train(x, begun, go):
        with open(begun, "ab", buffering=0) as file:
            file.write(f"{x} {os.environ['SLURM_JOB_ID']}\\n".encode())
        while not os.path.exists(go):
            time.sleep(0.05)
        return x * 2

    scheduler = Scheduler.with_slurm_jobs(**OPTIONS)
    task = scheduler.task(train)
    scheduler.on_start(lambda: [task.submit(x, BEGUN, GO) for x in GIVEN])
    told = []
    task.on_result(lambda future, result: told.append((future.number, result, future.attempt)))
    task.on_exception(lambda future, error: told.append((future.number, type(error).__name__, future.attempt)))
    print("begins")
    state = scheduler.run(journal=JOURNAL, on_exception="continue")
    print(state.code.name, sorted(told))
"""


class Experiment:
    """A program whose calls are jobs that go on until `go` is called."""

    def __init__(self, place: Path) -> None:
        self.journal = place / "search"
        self.begun, self._go = place / "begun", place / "go"
        self.begun.touch()

    def source(self, *given: int) -> str:
        names = {
            "OPTIONS": OPTIONS,
            "JOURNAL": str(self.journal),
            "BEGUN": str(self.begun),
            "GO": str(self._go),
            "GIVEN": given,
        }
        lines = [f"{name} = {value!r}" for name, value in names.items()]
        return "\n".join([*lines, *(line[4:] for line in PROGRAM.splitlines())])

    def computed(self) -> list[str]:
        """What has begun, and by which job: a line each."""
        return self.begun.read_text().splitlines()

    def wait_begun(self, n: int) -> None:
        wait_until(lambda: len(self.computed()) >= n, f"{n} jobs have begun")

    def go(self) -> None:
        self._go.touch()


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module", autouse=True)
def a_slurm() -> Iterator[None]:
    why = slurm_helper.missing()
    if why is not None:
        pytest.skip(f"!!! NOT TESTED ON SLURM: {why}")
    with slurm_helper.slurm():
        yield


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return Experiment(tmp_path)


@pytest.fixture
def scheduler(tmp_path: Path) -> Scheduler:
    return Scheduler.with_slurm_jobs(folder=tmp_path / "jobs", **OPTIONS)


# --------------------------------------------------------------------------------------------------- one call, one job


def place_of() -> dict[str, Any]:
    """What the job of this call was given."""
    sys.stdout.write("hello\n")
    names = ("SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    asked = ["squeue", "--noheader", f"--jobs={os.environ['SLURM_JOB_ID']}", "--format=%l|%k"]
    limit = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    return {"limit": limit, "granted": dict(granted()), **{name: os.environ.get(name) for name in names}}


def test_a_call_is_a_job_that_has_what_it_asks_for(scheduler: Scheduler, tmp_path: Path) -> None:
    """CPUs, memory, GPUs and time of each call are those of its job; what it prints is in the folder of the jobs."""
    train = scheduler.task(place_of, plugins=Resources(cpu=2, memory=200 * 1024**2, gpu=1, needs_time="90 min"))
    results: list[dict[str, Any]] = []
    scheduler.on_start(lambda: [train.submit(), scheduler.submit(place_of)])
    scheduler.on_future_result(lambda future, result: results.append(result if future.task else {"plain": result}))
    scheduler.run()
    plain = next(result["plain"] for result in results if "plain" in result)
    asked = next(result for result in results if "plain" not in result)
    assert asked["limit"] == "1:30:00|place_of"
    assert (asked["SLURM_CPUS_PER_TASK"], asked["SLURM_MEM_PER_NODE"]) == ("2", "200")
    assert asked["OMP_NUM_THREADS"] == "2"
    assert asked["CUDA_VISIBLE_DEVICES"] in {"0", "1"}
    assert asked["granted"] == {"cpu": 2, "memory": 200 * 1024**2, "gpu": (asked["CUDA_VISIBLE_DEVICES"],)}
    assert (plain["SLURM_MEM_PER_NODE"], plain["granted"]) == ("100", {})
    assert [path.read_text() for path in tmp_path.glob("jobs/*/*/*")] == ["hello\n"] * 2


def test_a_job_that_is_refused(scheduler: Scheduler) -> None:
    """Its call fails with what sbatch has said, and what it was asked for; others go on."""
    train = scheduler.task(abs, plugins=Resources(tpu=2))
    errors: list[BaseException] = []
    scheduler.on_start(lambda: [train.submit(-1), scheduler.submit(abs, -2)])
    scheduler.on_future_exception(lambda _, error: errors.append(error))
    state = scheduler.run(on_exception="continue")
    (error,) = errors
    assert isinstance(error, JobRefusedError)
    assert "Invalid license" in str(error)
    assert "--licenses=tpu:2" in error.__notes__[0]
    assert (state.exceptions, scheduler.event_counts[scheduler.FUTURE_RESULT]) == (1, 1)


def test_a_lost_job_costs_its_call_and_retry_makes_another(scheduler: Scheduler) -> None:
    """A job that is cancelled from outside is a lost worker, which is said with the state; `Retry` begins another."""
    with Gate() as gate:
        train = scheduler.task(pass_gate, plugins=Retry(lost_workers=1))
        errors: list[BaseException] = []
        train.on("retry")(lambda _, error, __: (errors.append(error), gate.open()))
        scheduler.on_start(lambda: train.submit(gate.address, 42))
        gate.when_begun(1, lambda: subprocess.run(["scancel", *slurm_helper.jobs()], check=True))
        results: list[Any] = []
        train.on_result(lambda _, result: results.append(result))
        scheduler.run()
    assert results == [42]
    (error,) = errors
    assert isinstance(error, WorkerLostError)
    assert "of the Slurm cluster has ended (CANCELLED" in str(error)


def test_a_requeued_job_goes_on(tmp_path: Path) -> None:
    """With `requeue=True`, a job that Slurm begins again computes its call again; the call does not notice."""
    scheduler = Scheduler.with_slurm_jobs(folder=tmp_path / "jobs", requeue=True, **OPTIONS)
    begun = tmp_path / "begun"

    def count() -> str:
        with begun.open("a") as file:
            file.write("x")
        if len(begun.read_text()) == 1:
            time.sleep(GUARD)
        return os.environ["SLURM_RESTART_COUNT"]

    def requeue() -> None:
        if not begun.exists():
            scheduler.call_later(0.05, requeue)
            return
        (number,) = slurm_helper.jobs()
        subprocess.run(["scontrol", "requeue", number], check=True)
        hurry(number)

    def hurry(number: str, had_ended: bool = False) -> None:
        """Let it not wait for two minutes. Within a second of its end, its new credential would be revoked too."""
        asked = ["squeue", "--noheader", "--format=%T", "--jobs", number]
        state = subprocess.run(asked, capture_output=True, check=False, text=True).stdout.strip()
        if state == "PENDING" and had_ended:
            subprocess.run(["scontrol", "update", f"JobId={number}", "StartTime=now"], capture_output=True, check=False)
        if len(begun.read_text()) == 1:
            scheduler.call_later(2, hurry, number, state == "PENDING")

    results: list[Any] = []
    scheduler.on_start(requeue)
    scheduler.on_start(lambda: scheduler.submit(count))
    scheduler.on_future_result(lambda _, result: results.append(result))
    scheduler.run()
    assert (results, begun.read_text()) == (["1"], "xx")


def test_at_most_so_many_jobs(tmp_path: Path) -> None:
    """With `max_jobs`, further calls wait here, and say so."""
    scheduler = Scheduler.with_slurm_jobs(folder=tmp_path / "jobs", max_jobs=1, **OPTIONS)
    said: list[str | None] = []
    with Gate() as gate:
        scheduler.on_start(lambda: [scheduler.submit(pass_gate, gate.address, n) for n in range(3)])

        def look() -> None:
            said.append(scheduler.explain(scheduler.queue[-1]))
            said.append(str(len(slurm_helper.jobs())))
            gate.open()

        gate.when_begun(1, lambda: scheduler.call_later(0, look))
        scheduler.run()
    assert said == ["waits to be submitted as a job of the Slurm cluster", "1"]
    assert scheduler.event_counts[scheduler.FUTURE_RESULT] == 3


# -------------------------------------------------------------------------------------------- calls outlive the program


@pytest.mark.parametrize("seed", range(2))
def test_a_program_that_is_killed_again_and_again(seed: int) -> None:
    """Kill -9 at random moments: an outcome and a job for each call. `python -m tests.kills.slurm_jobs` makes 100."""
    verdict = kill(calls=8, kills=4, seed=seed, longest=1.5)
    assert verdict.problems == []
    assert verdict.jobs == 8


def lay_trap(place: Path, command: str) -> dict[str, str]:
    """Have sbatch do something else the first time; returns the variable that makes programs find it."""
    sbatch = shutil.which("sbatch")
    assert sbatch is not None
    trap = place / "bin" / "sbatch"
    trap.parent.mkdir()
    lines = ["#!/bin/sh", f"if mkdir {place}/sprung 2> /dev/null; then", command.format(sbatch=sbatch), "fi"]
    trap.write_text("\n".join([*lines, f'exec {sbatch} "$@"', ""]))
    trap.chmod(0o755)
    return {"PATH": f"{trap.parent}{os.pathsep}{os.environ['PATH']}"}


def test_an_sbatch_that_has_submitted_and_says_that_it_has_not(
    scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load Slurm's answer may be late: the job is found by its name, and no other is submitted."""
    said = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    (path,) = lay_trap(tmp_path, f'{{sbatch}} "$@"; echo "{said}" >&2; exit 1').values()
    before = next_number()
    monkeypatch.setenv("PATH", path)
    results: list[Any] = []
    scheduler.on_start(lambda: [scheduler.submit(abs, -n) for n in range(3)])
    scheduler.on_future_result(lambda _, result: results.append(result))
    scheduler.run()
    assert sorted(results) == [0, 1, 2]
    assert next_number() == before + 4


TRAPS = {
    "after": 'number=$({sbatch} "$@"); kill -9 $PPID; echo $number; exit',
    "before": 'driver=$PPID exec setsid sh -c \'kill -9 $driver; sleep 1; exec {sbatch} "$@"\' sh "$@"',
}


@pytest.mark.parametrize("when", TRAPS)
def test_killed_while_a_job_is_being_submitted(experiment: Experiment, tmp_path: Path, when: str) -> None:
    """Between sbatch's success and its record, or before a sbatch that goes on alone: the job is found by its name."""
    path = lay_trap(tmp_path, TRAPS[when])
    with Script(experiment.source(1), env=path) as script:
        assert script.process.wait(GUARD) == -signal.SIGKILL
    with Script(experiment.source(1), env=path) as script:
        experiment.wait_begun(1)
        experiment.go()
        assert script.end().lines == ["begins", "EXHAUSTED [(0, 2, 1)]"]
    assert len(experiment.computed()) == 1
    slurm_helper.wait_until_empty()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_suspended_leaves_its_jobs_to_the_next(experiment: Experiment, signum: signal.Signals) -> None:
    """They go on, and their numbers are logged; the next run takes what they return, as the first attempt."""
    with Script(experiment.source(1, 2)) as script:
        experiment.wait_begun(2)
        script.send(signum)
        ended = script.end()
    assert ended.code != 0
    jobs = slurm_helper.jobs()
    assert len(jobs) == 2
    assert "2 jobs of Slurm go on" in ended.errors
    experiment.go()
    wait_until(lambda: not slurm_helper.jobs(), "they have ended while nobody watches")
    assert run_script(experiment.source(1, 2)).lines == ["begins", "EXHAUSTED [(0, 2, 1), (1, 4, 1)]"]
    assert {line.split()[1] for line in experiment.computed()} == set(jobs)
    assert len(experiment.computed()) == 2


def test_a_job_that_is_lost_while_nobody_watches(experiment: Experiment) -> None:
    """The next run says so, and does not submit it again by itself."""
    with Script(experiment.source(1)) as script:
        experiment.wait_begun(1)
        script.send(signal.SIGKILL)
        script.process.wait()
    subprocess.run(["scancel", *slurm_helper.jobs()], check=True)
    slurm_helper.wait_until_empty()
    experiment.go()
    assert run_script(experiment.source(1)).lines == ["begins", "EXHAUSTED [(0, 'WorkerLostError', 1)]"]
    assert len(experiment.computed()) == 1


def test_another_call_takes_the_place_of_one_that_is_made_no_more(experiment: Experiment) -> None:
    """A job with the number of another call is cancelled, and not taken for that call."""
    with Script(experiment.source(1)) as script:
        experiment.wait_begun(1)
        script.send(signal.SIGKILL)
        script.process.wait()
    (old,) = slurm_helper.jobs()
    (experiment.journal / "journal.log").unlink()
    with Script(experiment.source(5)) as script:
        experiment.wait_begun(2)
        wait_until(lambda: old not in slurm_helper.jobs(), "the old job is cancelled")
        experiment.go()
        assert script.end().lines == ["begins", "EXHAUSTED [(0, 10, 1)]"]
    assert [line.split()[0] for line in experiment.computed()] == ["1", "5"]


def test_failures_that_are_retried_later_are_new_jobs(experiment: Experiment) -> None:
    """After `amltk retry --failed`, a call is computed again: what its job came to before is not taken for it."""
    experiment.go()
    source = experiment.source(1).replace("return x * 2", "return 1 / (os.path.getsize(begun) > 9)")
    first = run_script(source).lines
    assert first == ["begins", "EXHAUSTED [(0, 'ZeroDivisionError', 1)]"]
    amltk.journal.retry(experiment.journal)
    experiment.begun.write_text(experiment.begun.read_text() + "x" * 20)
    assert run_script(source).lines == ["begins", "EXHAUSTED [(0, 1.0, 2)]"]
