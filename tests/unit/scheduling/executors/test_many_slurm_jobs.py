"""A thousand jobs of Slurm at a time: what the driver looks at does not grow with their number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling.executors.remote.slurm_jobs import slurm, watcher
from amltk.scheduling.executors.remote.slurm_jobs.job_state import Job
from amltk.scheduling.executors.remote.slurm_jobs.slurm import Listed
from amltk.scheduling.executors.remote.slurm_jobs.watcher import MOST_LOOKS, Watcher

if TYPE_CHECKING:
    from pathlib import Path

MANY = 1000


class Folder:
    """The folder of a call, which counts how often it is looked at."""

    def __init__(self, number: int) -> None:
        self.job_name = f"job-{number}"
        self.outcome: bytes | None = None
        self.looks = 0

    def read_outcome(self) -> bytes | None:
        self.looks += 1
        return self.outcome

    def claimed_by(self) -> str:
        return ""


class Owner:
    """Notes what the watcher says."""

    def __init__(self) -> None:
        self.begun: list[Job] = []
        self.taken: list[Job] = []

    def begin(self, job: Job, nodes: str) -> None:
        self.begun.append(job)

    def take(self, job: Job, outcome: bytes) -> None:
        self.taken.append(job)


class Cluster:
    """A thousand jobs, a clock, and a stand-in for squeue."""

    def __init__(self, tmp_path: Path) -> None:
        self.now = 1000.0
        self.asked = 0
        self.states = dict.fromkeys(range(MANY), "RUNNING")
        self.owner: Any = Owner()
        self.watcher = Watcher(self.owner, 5.0, MANY)
        self.jobs = []
        for number in range(MANY):
            call: Any = SimpleNamespace()
            job = Job(call, b"", {}, tmp_path, str(number))
            job.files = Folder(number)  # type: ignore[assignment]
            job.number = str(number)
            self.jobs.append(job)
            self.watcher._sent[job] = None

    def queue(self) -> dict[str, list[Listed]]:
        self.asked += 1
        return {f"job-{n}": [Listed(str(n), state, "None", 0, "node-1")] for n, state in self.states.items()}

    def end(self, number: int) -> Job:
        """End a job."""
        self.states[number] = "COMPLETED"
        self.jobs[number].files.outcome = b"it"
        return self.jobs[number]

    def looks(self) -> int:
        """How many folders were looked at since the last time."""
        looks = sum(job.files.looks for job in self.jobs)
        for job in self.jobs:
            job.files.looks = 0
        return looks


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster(tmp_path)
    monkeypatch.setattr(slurm, "queue", cluster.queue)
    monkeypatch.setattr(watcher, "time", SimpleNamespace(monotonic=lambda: cluster.now))
    cluster.watcher._work_once()
    assert len(cluster.owner.begun) == MANY
    assert cluster.looks() == MOST_LOOKS
    return cluster


def test_calls_that_come_and_go_have_nobody_look_at_the_others(cluster: Cluster) -> None:
    """Whatever wakes the watcher, folders are looked at twice a second at most, and Slurm is asked once in a while."""
    for _ in range(100):
        cluster.watcher._work_once()
    assert cluster.looks() == 0
    assert cluster.asked == 1
    cluster.now += 1
    cluster.watcher._work_once()
    assert cluster.looks() == MOST_LOOKS


def test_one_question_tells_of_all_jobs(cluster: Cluster) -> None:
    """A look at the queue is one squeue; jobs that go on are not noted again, those that ended are read at once."""
    ended = [cluster.end(number) for number in range(0, MANY, 5)]
    cluster.now += 5
    cluster.watcher._work_once()
    assert cluster.asked == 2
    assert cluster.owner.taken == ended
    assert len(cluster.owner.begun) == MANY
    assert cluster.looks() == len(ended) + MOST_LOOKS


def test_every_folder_has_its_turn(cluster: Cluster) -> None:
    """A call whose job has ended between two questions is found by its folder, ten looks later with a thousand jobs."""
    ended = cluster.end(MANY - 1)
    for _ in range(MANY // MOST_LOOKS):
        cluster.now += 1
        cluster.watcher._due = cluster.now + 1  # Slurm says nothing meanwhile
        cluster.watcher._work_once()
    assert cluster.owner.taken == [ended]
