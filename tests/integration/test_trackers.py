"""The observers for experiment trackers, with these libraries and stores of files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.plugins import WandbPlugin
from tests.helpers.script import run_script
from tests.helpers.wandb_file import run_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

OFFLINE = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}

MLFLOW = """
import json, math, sys
from amltk.scheduling import Scheduler
from amltk.scheduling.plugins import MLflowPlugin

def note_connections(event, args):
    if event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        print("reached for", args)

sys.addaudithook(note_connections)

def train(rate, config, *, seed=7):
    if rate < 0:
        raise ValueError("diverged")
    return {"loss": rate, "worst": math.inf, "name": "x"}

URI = "sqlite:///tracking.db"
scheduler = Scheduler.with_processes(1)
task = scheduler.task(train, plugins=MLflowPlugin("tuning", tracking_uri=URI))
odd = {"layers": [64, 32], "a/b": 1, "..": 2, "": object, "many": dict.fromkeys(map(str, range(150)), "x" * 9000)}

@scheduler.on_start
def launch():
    task.submit(0.5, odd)
    task.submit(-1, {})
    task.submit(1, {}).cancel()

print(scheduler.run(on_exception="continue", on_cancelled="continue"))

from mlflow import MlflowClient

client = MlflowClient(URI)
experiment = client.get_experiment_by_name("tuning")
for run in client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"]):
    print(json.dumps([run.info.run_name, run.info.status, run.info.end_time - run.info.start_time, run.data.params,
                      run.data.metrics, run.data.tags.get("exception")]))
"""


def test_mlflow() -> None:
    """Each call is a run of the experiment with parameters, metrics, status and times, whatever its arguments are."""
    # SQLAlchemy 2.1 warns of what MLflow makes of it.
    ended = run_script(MLFLOW, "-W", "error", "-W", "ignore:The ``noload`` loader", env=OFFLINE)
    assert ended.code == 0, ended.errors
    assert ended.lines[0] == "ExitState(code=<Code.EXHAUSTED: 3>, exception=None)", ended.errors
    runs = {run[1]: run for run in map(json.loads, ended.lines[1:])}
    assert set(runs) == {"FINISHED", "FAILED", "KILLED"}
    name, _, duration, params, metrics, exception = runs["FINISHED"]
    assert (name, exception) == ("train", None)
    assert duration >= 0
    assert (params["rate"], params["seed"], params["config.layers"]) == ("0.5", "7", "[64, 32]")
    assert params["config.a_b"] == "1"
    assert len(params) == 2 + 4 + 150
    assert metrics["loss"] == 0.5
    assert metrics["seconds.total"] >= metrics["seconds.computed"] >= 0
    assert "name" not in metrics
    assert runs["FAILED"][5] == "ValueError: diverged"
    assert runs["KILLED"][3]["rate"] == "1"


def train(rate: float, *, seed: int = 7) -> dict[str, Any]:
    """What is computed."""
    if rate < 0:
        raise ValueError("diverged")
    return {"loss": rate, "name": "x"}


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is a run in a file, with config, summary and how it ended; wandb's service has ended with the run."""
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    scheduler = Scheduler.with_processes(1)
    task = scheduler.task(train, plugins=WandbPlugin(project="tuning", group="first", dir=tmp_path))

    @scheduler.on_start
    def launch() -> None:
        task.submit(0.5)
        task.submit(-1)
        last: Any = task.submit(1)
        last.cancel()

    scheduler.run(on_exception="continue", on_cancelled="continue")
    assert not [child for child in psutil.Process().children(recursive=True) if "wandb" in child.name()]
    runs = {run["exit_code"]: run for run in map(run_of, tmp_path.glob("wandb/offline-run-*/*.wandb"))}
    assert set(runs) == {0, 1, 255}
    assert (runs[0]["name"], runs[0]["group"], runs[0]["config"]) == ("train", "first", {"rate": 0.5, "seed": 7})
    summary = runs[0]["summary"]
    assert (summary["outcome"], summary["loss"]) == ("result", 0.5)
    assert summary["seconds.total"] >= summary["seconds.computed"] >= 0
    assert summary["submitted"] <= summary["began"] <= summary["ended"]
    assert (runs[1]["summary"]["outcome"], runs[1]["summary"]["exception"]) == ("exception", "ValueError: diverged")
    assert runs[255]["summary"]["outcome"] == "cancelled"
    assert runs[255]["config"]["rate"] == 1


def test_a_mode_that_is_none() -> None:
    """A misspelt mode is an error when the plugin is made."""
    with pytest.raises(ValueError, match="mode='of': must be 'online', 'offline' or 'disabled'"):
        WandbPlugin(project="tuning", mode="of")  # type: ignore[arg-type]
