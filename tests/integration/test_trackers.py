"""Trackers with their real libraries, which read back what was written."""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING, Any

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported
os.environ["WANDB_ERROR_REPORTING"] = "false"

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.plugins import MLflowPlugin, WandbPlugin
from tests.helpers.script import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from amltk.scheduling import Plugin

pytestmark = pytest.mark.integration

BLOCK = 1 << 15
FULL, LAST = 1, 4


def train(config: dict[str, Any], seed: int = 1) -> dict[str, float]:
    if config["rate"] > 1:
        raise ValueError("too fast")
    return {"loss": config["rate"] / 2}


def run(*plugins: Plugin) -> None:
    """Run a call that returns, one that raises, and one that is cancelled before it begins."""
    scheduler = Scheduler.with_processes(1)
    task = scheduler.task(train, plugins=plugins)

    def launch() -> None:
        futures = [task.submit({"rate": rate}) for rate in (0.5, 2, 0.1)]
        assert futures[2] is not None
        futures[2].cancel()

    scheduler.on_start(launch)
    scheduler.run(on_exception="continue", on_cancelled="continue")


# -------------------------------------------------------------------------------------------------------- MLflow


@pytest.fixture
def mlflow_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file store, since a database takes seconds to set up, and its connections stay open."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "store").as_uri()


def test_mlflow_has_a_run_of_each_call(mlflow_uri: str) -> None:
    """MLflow's client reads back the arguments, metrics, times and status of each call."""
    run(MLflowPlugin("trials", tracking_uri=mlflow_uri))

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow_uri)
    experiment = client.get_experiment_by_name("trials")
    runs = {run.info.status: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"FINISHED", "FAILED", "KILLED"}
    assert {run.info.run_name for run in runs.values()} == {"train"}
    assert runs["FINISHED"].data.params == {"config.rate": "0.5", "seed": "1"}
    assert runs["FINISHED"].data.metrics["loss"] == 0.25
    assert set(runs["FINISHED"].data.metrics) == {"loss", "seconds.total", "seconds.waited", "seconds.computed"}
    assert runs["FAILED"].data.tags["exception"] == "ValueError: too fast"
    assert set(runs["KILLED"].data.metrics) == {"seconds.total"}
    assert all(run.info.start_time <= run.info.end_time for run in runs.values())


def test_mlflow_goes_on_with_an_experiment(mlflow_uri: str) -> None:
    """A second run of the scheduler adds to the existing experiment."""
    for _ in range(2):
        run(MLflowPlugin("trials", tracking_uri=mlflow_uri))

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow_uri)
    assert len(client.search_runs([client.get_experiment_by_name("trials").experiment_id])) == 6


DATABASE = """
    import sys

    from amltk.scheduling import Scheduler
    from amltk.scheduling.plugins import MLflowPlugin

    questions = {"socket.getaddrinfo", "socket.gethostbyname"}
    sys.addaudithook(lambda event, args: print("asked for", args) if event in questions else None)

    scheduler = Scheduler.with_sequential()
    task = scheduler.task(abs, plugins=MLflowPlugin("trials", tracking_uri="sqlite:///tracking.db"))
    scheduler.on_start(lambda: task.submit(-0.5))
    scheduler.run()

    from mlflow import MlflowClient

    client = MlflowClient("sqlite:///tracking.db")
    for run in client.search_runs([client.get_experiment_by_name("trials").experiment_id]):
        print(run.info.status, run.data.params, run.data.metrics["result"])
    """


def test_mlflow_with_a_database() -> None:
    """The tracker's thread creates a database, MLflow's default, and writes to it; no server is contacted."""
    # SQLAlchemy 2.1 warns about what MLflow asks of it.
    ended = run_script(DATABASE, "-W", "error", "-W", "ignore:The ``noload`` loader")
    assert ended.lines == ["FINISHED {'x': '-0.5'} 0.5"], ended.errors
    assert ended.code == 0


def nothing(**parameters: Any) -> dict[str, float]:
    return {"a/../b": 1, "..": 2, "": 3, **{f"m{n}": n for n in range(250)}}


def test_names_and_numbers_that_mlflow_would_refuse(mlflow_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    """Invalid names are adapted, and more parameters and metrics than MLflow takes at a time are all written."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(nothing, plugins=MLflowPlugin("trials", tracking_uri=mlflow_uri))
    scheduler.on_start(lambda: task.submit(**{f"p{n}": n for n in range(250)}, **{"a:b": "x" * 10_000}))
    scheduler.run()
    assert caplog.records == []

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow_uri)
    (found,) = client.search_runs([client.get_experiment_by_name("trials").experiment_id])
    assert len(found.data.params) == 251
    assert found.data.metrics["a_.._b"] == 1
    assert found.data.metrics["_.."] == 2
    assert found.data.metrics["m249"] == 249


def test_a_store_that_cannot_be_written_to_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If MLflow cannot write, the run is unaffected, and an event reports it."""
    (tmp_path / "store").write_text("no folder")
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(abs, plugins=MLflowPlugin("trials", tracking_uri=(tmp_path / "store").as_uri()))
    told: list[Exception] = []
    task.on("tracking-failed")(told.append)
    scheduler.on_start(lambda: task.submit(-1))
    scheduler.run()
    assert len(told) == 1
    assert "calls are not tracked" in caplog.text


# -------------------------------------------------------------------------------------------------------- wandb


@pytest.fixture
def wandb_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for what wandb writes, including its own settings."""
    for name in ("WANDB_DIR", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def log_records(log: bytes) -> Iterator[bytes]:
    """Return the records of a wandb file, a log in LevelDB's format: 32 KiB blocks with parts of records."""
    at, parts = 7, b""  # after the file's own header
    while at + 7 <= len(log):
        left = -at % BLOCK or BLOCK
        if left < 7:  # too little for the header of a part
            at += left
            continue
        length, kind = struct.unpack_from("<HB", log, at + 4)
        parts += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (FULL, LAST):
            yield parts
            parts = b""


def read_back(folder: Path) -> list[dict[str, Any]]:
    """Return name, config, summary and exit code of each offline run, from its files."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        told: dict[str, Any] = {}
        for data in log_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                told["name"], told["group"] = record.run.display_name, record.run.run_group
                told |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            for item in record.summary.update:
                told[".".join(item.nested_key) or item.key] = json.loads(item.value_json)
            if record.HasField("exit"):
                told["exit"] = record.exit.exit_code
        found.append(told)
    return found


def test_wandb_has_a_run_of_each_call(wandb_folder: Path) -> None:
    """The files have the arguments, metrics, times and exit code of each call, and the service is gone."""
    run(WandbPlugin(project="trials", group="first", dir=wandb_folder))
    runs = {run["outcome"]: run for run in read_back(wandb_folder)}
    assert {outcome: run["exit"] for outcome, run in runs.items()} == {"result": 0, "exception": 1, "cancelled": 255}
    assert {(run["name"], run["group"], run["seed"]) for run in runs.values()} == {("train", "first", 1)}
    assert runs["result"]["config.rate"] == 0.5
    assert runs["result"]["loss"] == 0.25
    assert runs["result"]["seconds.computed"] <= runs["result"]["seconds.total"]
    assert runs["exception"]["exception"] == "ValueError: too fast"
    assert "began" not in runs["cancelled"]


def test_a_disabled_wandb_writes_nothing(wandb_folder: Path) -> None:
    """With mode="disabled" there is no file."""
    run(WandbPlugin(project="trials", dir=wandb_folder, mode="disabled"))
    assert read_back(wandb_folder) == []


def test_a_mode_that_wandb_has_not() -> None:
    """A misspelt mode is rejected with an error that lists the valid ones."""
    with pytest.raises(ValueError, match="mode='off': must be 'online', 'offline' or 'disabled'"):
        WandbPlugin(project="trials", mode="off")  # type: ignore[arg-type]


def test_two_trackers_at_once(wandb_folder: Path, mlflow_uri: str) -> None:
    """Both record the same calls."""
    plugins = WandbPlugin(project="trials", dir=wandb_folder), MLflowPlugin("trials", tracking_uri=mlflow_uri)
    run(*plugins)
    assert [plugin.status() for plugin in plugins] == ["3 written", "3 written"]
