"""Batch systems other than Slurm are asked about jobs whose workers have not connected.

Stand-ins say what the manuals of these systems say. They are no proof of how the systems themselves behave.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from amltk.scheduling.executors.remote.dask.jobs.queue_state import Commands, Said
from tests.helpers.stand_in_batch_systems import SYSTEMS, Says, end_the_wait, make, run_broken, write_command

if TYPE_CHECKING:
    from pathlib import Path

    from amltk.scheduling import Scheduler

pytestmark = pytest.mark.integration

UNCLEAR = [
    pytest.param(Says("", "cannot connect to server head (errno=111)", 1), id="an-error"),
    pytest.param(Says("4711 is well", "", 0), id="other-words"),
    pytest.param(Says("", "Job 4711 unknown, or not", 0), id="complaint-without-exit-code"),
]


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask, and submit other jobs, without long pauses."""
    from amltk.scheduling.executors.remote.dask.jobs import watch  # not before: it changes how exceptions are pickled

    monkeypatch.setattr(watch, "FIRST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(watch, "LAST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(watch, "RETRY_SECONDS", 0.05)


def made(name: str, folder: Path, answers: str) -> Scheduler:
    """A scheduler whose jobs are accepted, and asked about by a script; each question adds a line to a file."""
    system = SYSTEMS[name]
    write_command(folder / system.asks, f"echo \"$@\" >> '{folder}/asked'\n{answers}")
    return make(name, folder, f"cat <<'END'\n{system.accepts}\nEND")


def n_asked(folder: Path) -> int:
    """How often was asked."""
    asked = folder / "asked"
    return len(asked.read_text().splitlines()) if asked.exists() else 0


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_job_that_ends_before_its_worker_connects_is_a_failed_start(name: str, tmp_path: Path) -> None:
    """After three of them, the run ends with how the last one has ended and the end of its log."""
    system = SYSTEMS[name]
    (tmp_path / system.log).write_text("module: command not found\n")
    said = run_broken(made(name, tmp_path, system.ended.script))
    job = "4711.0" if name == "htcondor" else "4711"
    how = f" ({system.state})" if system.state else ""
    assert f"job {job} ended{how} before its worker had connected; the end of its log" in said
    assert "module: command not found" in said
    assert "3 times in succession" in said
    assert n_asked(tmp_path) == (3 if system.state else 6)


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_is_told_why_a_job_waits(name: str, tmp_path: Path) -> None:
    """The display, and the error after `worker_timeout`, have the batch system's words."""
    system = SYSTEMS[name]
    scheduler = made(name, tmp_path, system.queued.script)
    end_the_wait(scheduler, lambda told: told.reason)
    said = run_broken(scheduler)
    assert "0 of 1 worker is up, 1 job waits in the queue since " in said
    assert f" ({system.reason}); " in said


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_is_told_that_a_job_has_started(name: str, tmp_path: Path) -> None:
    """Its worker is still to connect."""
    scheduler = made(name, tmp_path, SYSTEMS[name].started.script)
    end_the_wait(scheduler, lambda told: told.starting)
    assert "0 of 1 worker is up, 1 job starts; " in run_broken(scheduler)


@pytest.mark.parametrize("says", UNCLEAR)
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_job_is_waited_for_where_the_answer_is_unclear(
    name: str, says: Says, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However often that is: only a clear answer ends the wait. The log has one line about it."""
    caplog.set_level(logging.DEBUG, "amltk")
    scheduler = made(name, tmp_path, says.script)
    end_the_wait(scheduler, lambda _: n_asked(tmp_path) > 4)
    assert "no worker was up within worker_timeout=86400 s: 0 of 1 worker is up, 1 job waits" in run_broken(scheduler)
    lines = [record for record in caplog.records if "says nothing about the jobs 4711" in record.message]
    assert len(lines) == 1


def test_a_job_that_is_unknown_now_and_then_is_waited_for(tmp_path: Path) -> None:
    """Only a job that is unknown twice in a row is taken for one that has ended."""
    pbs = SYSTEMS["pbs"]
    is_odd = f"[ $(($(wc -l < '{tmp_path}/asked') % 2)) -eq 1 ]"
    scheduler = made("pbs", tmp_path, f"if {is_odd}; then\n{pbs.ended.script}\nfi\n{pbs.queued.script}")
    end_the_wait(scheduler, lambda _: n_asked(tmp_path) > 6)
    assert "1 job waits in the queue" in run_broken(scheduler)


def test_a_job_whose_name_is_in_doubt_is_not_asked_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A line about 7 nodes is not job 7, which has ended."""
    caplog.set_level(logging.DEBUG, "amltk")
    write_command(tmp_path / "qstat", f"echo >> '{tmp_path}/asked'\necho 'qstat: Unknown Job Id 7.head' >&2\nexit 153")
    scheduler = make("pbs", tmp_path, "echo 7 nodes are free\necho 4711.head")
    end_the_wait(scheduler, lambda told: told.waiting)
    assert "1 job waits in the queue" in run_broken(scheduler)
    assert "the batch system is not asked about the job 7" in caplog.messages
    assert n_asked(tmp_path) == 0


def test_questions_reach_another_machine_as_they_are(tmp_path: Path) -> None:
    """A shell reads there once more what `ssh` is given, and would take a part of it as something else."""
    write_command(tmp_path / "ssh", 'shift\nexec sh -c "$*"')
    said = asyncio.run(Commands((f"{tmp_path}/ssh", "login")).run("printf", "%s|", "jobid stat", "$user", "%i|%T"))
    assert said == Said(0, "jobid stat|$user|%i|%T|")


def test_a_job_that_waits_in_an_error_is_a_failed_start(tmp_path: Path) -> None:
    """Grid Engine keeps such a job until someone clears the error."""
    listed = SYSTEMS["sge"].queued
    said = run_broken(made("sge", tmp_path, listed._replace(out=listed.out.replace("hqw", "Eqw")).script))
    assert "job 4711 waits for what does not come by itself: Eqw" in said
    assert "3 times in succession" in said
