"""What batch systems other than Slurm say about jobs, as their manuals have it, is understood; anything else is not."""

from __future__ import annotations

import pytest

from amltk.scheduling.executors.remote.dask.jobs.batch_systems import OTHERS, queue_of
from amltk.scheduling.executors.remote.dask.jobs.queue_state import Commands, Said, SlurmQueue
from tests.helpers.stand_in_batch_systems import SYSTEMS

NAMES = {"pbs": "4711.head", "htcondor": "4711.0"}
"""The name of job 4711, where it is another one."""

NONSENSE = [
    Said(0),
    Said(1),
    Said(1, "", "command not found"),
    Said(0, "4711"),
    Said(0, "4711 is well\n\n4712"),
    Said(0, "[]"),
    Said(0, "null"),
    Said(0, '{"4711": 3, "4712": {"state": null}}'),
    Said(0, "<job_info>"),
    Said(0, "<html>4711</html>"),
    Said(0, "Job Id: 4711.head\n"),
    Said(0, "Job Id: 4711.head\n    job_state = 7\n"),
    Said(255, "", "Job <4711> is not found"),
]


def told(system: str, said: Said, *jobs: str) -> dict[str, str | None]:
    """What a system has said about jobs: the state, the phase, and the reason of each."""
    answer = OTHERS[system].read(said, jobs)
    return {
        job: None if state is None else f"{state.state}, {state.phase.name}, {state.reason}"
        for job, state in answer.items()
    }


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("phase", ["queued", "started", "ended"])
def test_the_words_of_the_manuals_are_understood(system: str, phase: str) -> None:
    """A job waits, has started, or has ended; or it is not known any more."""
    says = getattr(SYSTEMS[system], phase)
    job = NAMES.get(system, "4711")
    answer = OTHERS[system].read(Said(says.code, says.out, says.errors), [job])
    state = answer[job]
    if phase == "ended" and not SYSTEMS[system].state:
        assert state is None
        return
    assert state is not None
    assert state.phase.name == phase.upper()
    assert state.reason == (SYSTEMS[system].reason if phase == "queued" else "")
    assert not state.waits_forever


@pytest.mark.parametrize("said", NONSENSE, ids=repr)
@pytest.mark.parametrize("system", OTHERS)
def test_nothing_is_made_of_other_words(system: str, said: Said) -> None:
    """Only an empty list of HTCondor means that it does not know the jobs."""
    job = NAMES.get(system, "4711")
    expected = {job: None} if system == "htcondor" and said == Said(0) else {}
    assert told(system, said, job) == expected


def test_pbs_says_something_about_each_of_several_jobs() -> None:
    """One goes on, one waits with a reason over two lines, one is unknown, one has finished; nothing about the last."""
    out = (
        "Job Id: 1.head\n    job_state = R\n    comment = Job run at Sun\n    Variable_List = A,\n\tjob_state = Q,C\n\n"
        "Job Id: 12.head\n    job_state = Q\n    comment = Not Running: no nodes, \n\tand no hope\n"
    )
    errors = (
        "qstat: Unknown Job Id 3.head\n"
        "qstat: 4.head Job has finished, use -x or -H to obtain historical job information\n"
        "qstat: cannot connect to server other (errno=111)\n"
    )
    assert told("pbs", Said(35, out, errors), "1.head", "12.head", "3.head", "4.head", "5.head") == {
        "1.head": "R, STARTED, ",
        "12.head": "Q, QUEUED, Not Running: no nodes, and no hope",
        "3.head": None,
        "4.head": "F, ENDED, ",
    }


def test_torque_has_other_words_for_a_job_that_it_does_not_know() -> None:
    """Moab may have given it that number, so that nothing follows there."""
    said = Said(153, "", "qstat: Unknown Job Id Error 4711.head")
    assert told("pbs", said, "4711") == {"4711": None}
    assert told("moab", said, "4711") == {}


def test_a_long_reason_is_cut() -> None:
    """LSF has one for each machine."""
    reason = "Not enough slots: " + ";".join(f"node{n}" for n in range(1000))
    (said,) = told("lsf", Said(255, f"4711 PEND {reason}\n", "Job <12> is not found"), "4711", "12").values()
    assert said is not None
    assert said.startswith("PEND, QUEUED, Not enough slots:")
    assert len(said) < 150


def test_sge_does_not_know_jobs_that_are_not_in_its_list() -> None:
    """Those with an error wait until someone clears it."""
    lists = "".join(
        f"<job_list><JB_job_number>{job}</JB_job_number><state>{state}</state></job_list>"
        for job, state in {"1": "r", "2": "qw", "3": "Eqw", "4": "dr", "5": "", "7": "z"}.items()
    )
    said = Said(0, f"<?xml version='1.0'?><job_info><queue_info/><job_info>{lists}</job_info></job_info>")
    assert told("sge", said, "1", "2", "3", "4", "5", "6", "7") == {
        "1": "r, STARTED, ",
        "2": "qw, QUEUED, ",
        "3": "Eqw, QUEUED, Eqw",
        "4": "dr, STARTED, ",
        "6": None,
        "7": "z, ENDED, ",
    }
    answer = OTHERS["sge"].read(said, ["2", "3"])
    assert [state.waits_forever for state in answer.values() if state is not None] == [False, True]


def test_condor_is_not_believed_with_a_complaint() -> None:
    """A job is unknown only if nothing went wrong."""
    assert told("htcondor", Said(0, "4711.0 1 undefined\n"), "4711.0", "12.0") == {
        "4711.0": "idle, QUEUED, ",
        "12.0": None,
    }
    assert told("htcondor", Said(0, "4711.0 1 undefined\n", "-- Failed to fetch ads"), "4711.0", "12.0") == {}
    assert told("htcondor", Said(1), "4711.0") == {}


@pytest.mark.parametrize(
    ("name", "submit_command", "job_id", "said", "expected"),
    [
        ("pbs", "qsub", "4711", "4711.head.domain\n", "4711.head.domain"),
        ("pbs", "/opt/pbs/bin/qsub", "4711", "4711\n", "4711"),
        ("pbs", "qsub -q batch@other", "4711", "4711.other\n", None),
        ("pbs", "qsub", "7", "7 nodes are free\n4711.head\n", None),
        ("moab", "msub", "4711", "\n4711\n", "4711"),
        ("moab", "msub", "4711", "\nMoab.4711\n", None),
        ("sge", "qsub", "4711", 'Your job 4711 ("dask-worker") has been submitted\n', "4711"),
        ("sge", "qsub", "4711", "4711\n", "4711"),
        ("sge", "qsub", "7", '7 nodes are free\nYour job 4711 ("dask-worker") has been submitted\n', None),
        ("lsf", "ssh login bsub", "4711", "Job <4711> is submitted to queue <normal>.\n", "4711"),
        ("lsf", "bsub", "7", "7 nodes are free\nJob <4711> is submitted to queue <normal>.\n", None),
        ("oar", "oarsub", "4711", "[ADMISSION RULE] 7200\nOAR_JOB_ID=4711\n", "4711"),
        ("htcondor", "condor_submit ", "4711.0", "1 job(s) submitted to cluster 4711.\n", "4711.0"),
        ("htcondor", "condor_submit -name other", "4711.0", "1 job(s) submitted to cluster 4711.\n", None),
        ("slurm", "sbatch --exclusive", "4711", "4711\n", "4711"),
    ],
)
def test_a_job_is_asked_about_only_by_its_certain_name(
    name: str, submit_command: str, job_id: str, said: str, expected: str | None
) -> None:
    """Not if dask-jobqueue took another number for it, or if the job may have gone elsewhere."""
    queue = queue_of(name, submit_command)
    assert queue is not None
    assert queue.name_of(job_id, said, submit_command) == expected


def test_other_commands_are_run_as_the_one_that_submits_jobs() -> None:
    """With what precedes it, from the same folder; not at all if that is something else."""
    assert Commands.like("qsub", "qsub") == Commands()
    assert Commands.like("ssh 'log in' /opt/qsub", "qsub") == Commands(("ssh", "log in"), "/opt/")
    assert Commands.like("my-qsub", "qsub") is None
    assert queue_of("pbs", "my-qsub") is None
    assert queue_of("pbs", "qsub", "#!/bin/sh\n#PBS -q batch@elsewhere\n") is None
    assert queue_of("pbs", "qsub", "#!/bin/sh\n#PBS -q batch\n#PBS -M me@elsewhere\n") is not None
    slurm = queue_of("slurm", "my-sbatch")
    assert isinstance(slurm, SlurmQueue)
    assert slurm.commands == Commands()
    slurm = queue_of("slurm", "ssh login /opt/slurm/bin/sbatch")
    assert slurm is not None
    assert slurm.commands == Commands(("ssh", "login"))
