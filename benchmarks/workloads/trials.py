"""What it costs to make each trial of an Optuna study durable: with a journal, and with Optuna's own storages.

Trials compute nothing and run one after the other; the sampler draws at random.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import optuna
from _report import report
from optuna.distributions import FloatDistribution

from amltk.scheduling import Scheduler

SPACE = {name: FloatDistribution(0, 1) for name in ("x", "y", "z")}


def loss(x: float, y: float, z: float) -> float:
    return x + y + z


def storage(kind: str, folder: Path) -> Any:
    if kind == "journal-storage":
        backend = optuna.storages.journal.JournalFileBackend(str(folder / "optuna.log"))
        return optuna.storages.JournalStorage(backend)
    return f"sqlite:///{folder / 'optuna.db'}" if kind == "sqlite" else None


def seconds(kind: str, folder: Path, trials: int) -> float:
    study = optuna.create_study(storage=storage(kind, folder), sampler=optuna.samplers.RandomSampler(seed=1))
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(loss)
    left = iter(range(trials))
    asked: dict[object, optuna.Trial] = {}

    @scheduler.on_start
    def launch() -> None:
        for _ in left:
            trial = study.ask(SPACE)
            asked[task.submit(**trial.params)] = trial
            break

    @task.on_result
    def learn(future: object, value: float) -> None:
        study.tell(asked.pop(future), value)
        launch()

    began = time.perf_counter()
    scheduler.run(display=False, journal=folder / "search" if kind == "journal" else None)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("memory", "journal", "journal-storage", "sqlite"))
    parser.add_argument("--trials", type=int, required=True)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        took = seconds(given.kind, Path(folder), given.trials)
    report(microseconds=1e6 * took / given.trials)


if __name__ == "__main__":
    main()
