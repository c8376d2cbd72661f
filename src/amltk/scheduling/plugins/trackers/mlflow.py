"""Track calls with MLflow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from amltk import _extras
from amltk.scheduling.plugins.trackers.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amltk.scheduling.plugins.trackers.record import Record

_STATUS = {"result": "FINISHED", "exception": "FAILED", "cancelled": "KILLED"}

_MAX_BATCH = 100
"""How many parameters MLflow accepts at once; it accepts more metrics."""

_MAX_KEY_LENGTH = 250


class MLflowPlugin(Tracker):
    """Creates an [MLflow](https://mlflow.org) run for each call of a task, when the call has ended.

    A run has the call's arguments as parameters; its result as metrics, if that is a number or a mapping of numbers;
    and the metrics `seconds.total` and, if the executor reports them, `seconds.waited` and `seconds.computed`. Its
    status is `FINISHED`; `FAILED`, with the tag `exception`; or `KILLED` if the call was cancelled. It begins when a
    worker began the call or, if the executor does not report that, when the call was submitted.

    Runs are written in a thread; a run of the scheduler waits for it at its end. `Tracker` explains what happens on
    failures.

    Args:
        experiment_name: The experiment; created if it does not exist.
        tracking_uri: The destination, such as `"sqlite:///mlflow.db"` or `"http://127.0.0.1:5000"`; None for MLflow's
            current setting. A database needs SQLAlchemy and alembic in addition to `mlflow-skinny`.

    Raises:
        MissingExtraError: Neither mlflow nor mlflow-skinny is installed.
    """

    name = "mlflow"

    def __init__(self, experiment_name: str, *, tracking_uri: str | None = None) -> None:
        super().__init__()
        self._mlflow: Any = _extras.load("mlflow", needs="mlflow", extra="mlflow")
        self.experiment_name: str = experiment_name
        self.tracking_uri: str = tracking_uri or self._mlflow.get_tracking_uri()
        self._client: Any = None
        self._experiment_id = ""

    def open(self) -> None:
        """Find the experiment, or create it."""
        self._client = self._mlflow.MlflowClient(tracking_uri=self.tracking_uri)
        known = self._client.get_experiment_by_name(self.experiment_name)
        self._experiment_id = known.experiment_id if known else self._client.create_experiment(self.experiment_name)

    def write(self, record: Record) -> None:
        """Create the run of a call."""
        entities = self._mlflow.entities
        end = _milliseconds(record.ended)
        begin = _milliseconds(record.submitted if record.began is None else record.began)
        tags = {} if record.exception is None else {"exception": record.exception}
        run = self._client.create_run(self._experiment_id, start_time=begin, tags=tags, run_name=record.task)
        numbers = {**record.seconds, **record.metrics}.items()
        for metrics in _batches([entities.Metric(_key(name), value, end, 0) for name, value in numbers]):
            self._client.log_batch(run.info.run_id, metrics=metrics)
        parameters = record.parameters.items()
        for params in _batches([entities.Param(_key(name), str(value)) for name, value in parameters]):
            self._client.log_batch(run.info.run_id, params=params)
        self._client.set_terminated(run.info.run_id, status=_STATUS[record.outcome], end_time=end)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), _MAX_BATCH):
        yield items[start : start + _MAX_BATCH]


def _key(name: str) -> str:
    """A name that MLflow accepts: it must also be usable as a file name."""
    key = re.sub(r"[^\w.\- ]", "_", name)[:_MAX_KEY_LENGTH]
    return key if key.strip(".") else f"_{key}"
