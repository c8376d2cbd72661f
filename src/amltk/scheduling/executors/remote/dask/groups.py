"""Jobs of several shapes in one cluster of dask-jobqueue, and what the workers in them declare."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed.deploy.spec import SpecCluster

from amltk._checks import check_count
from amltk.scheduling._admission.amounts import UNIT, amount_of, units_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RESOURCES = "--resources"
"""The option of Dask workers by which they declare what they have."""

_NO_ADDRESS = "tcp://127.0.0.1:0"


@dataclass(frozen=True)
class Group:
    """Jobs of one shape.

    Attributes:
        options: The options of a job, as dask-jobqueue takes them.
        n_jobs: How many jobs.
        processes: How many workers a job has.
        declared: How many units each of these workers has, by name.
    """

    options: Mapping[str, Any]
    n_jobs: int
    processes: int
    declared: Mapping[str, int]

    @classmethod
    def of(cls, name: str, job_class: Any, options: Mapping[str, Any]) -> Group:
        """Make a group.

        Args:
            name: Its name, for messages.
            job_class: The class of its jobs.
            options: Their options, with `n_workers`, and with `resources`, which a worker has besides `cpu` and
                `memory`.

        Raises:
            ValueError: An option is unknown, or is missing, or does not go with another.
            TypeError: An option is of the wrong type.
        """
        options = dict(options)
        n_workers = check_count(f"groups[{name!r}]['n_workers']", options.pop("n_workers", None))
        resources = options.pop("resources", None) or {}
        if options.setdefault("processes", 1) != 1 and resources:
            raise ValueError(
                f"groups[{name!r}]: processes={options['processes']!r}: must be 1 with resources=, which are those of a"
                " worker: workers of one job would not know which of its devices are whose"
            )
        try:
            job = job_class(_NO_ADDRESS, name="dummy-name", **options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"groups[{name!r}]: {error}") from error
        declared = declared_by(job) | {
            kind: units_of(f"groups[{name!r}]['resources'][{kind!r}]", amount) for kind, amount in resources.items()
        }
        options["worker_extra_args"], declared = declaring(options.get("worker_extra_args", ()), declared)
        return cls(options, math.ceil(n_workers / job.worker_processes), job.worker_processes, declared)

    def specification(self, job_class: Any, common: Mapping[str, Any]) -> dict[str, Any]:
        """How Dask starts one of its jobs; `common` are the options that the cluster itself has made."""
        several = {"group": [f"-{n}" for n in range(self.processes)]} if self.processes > 1 else {}
        return {"cls": job_class, "options": {**self.options, **common}, **several}


class Grouped:
    """Makes a class of dask-jobqueue have jobs of several shapes: always as many as the groups say."""

    worker_spec: dict[Any, Any]
    job_cls: Any
    _job_kwargs: dict[str, Any]
    groups: tuple[Group, ...] = ()

    def new_worker_spec(self) -> dict[Any, Any]:
        """A job for a group that has too few."""
        ((name, _),) = super().new_worker_spec().items()  # type: ignore[misc] # of SpecCluster
        present = Counter(id(spec["of"]) for spec in self.worker_spec.values())
        group = next((one for one in self.groups if present[id(one)] < one.n_jobs), self.groups[0])
        common = {key: self._job_kwargs[key] for key in ("protocol", "security")}
        return {name: group.specification(self.job_cls, common) | {"of": group}}

    def scale(self, n: int = 0, **_: Any) -> None:
        """Start the jobs that are missing, or end all if `n` is 0."""
        cluster: Any = self
        SpecCluster.scale(cluster, sum(group.n_jobs for group in self.groups) if n else 0)


def declared_by(job: Any) -> dict[str, int]:
    """How many units each worker in a job has by itself."""
    return {
        "cpu": max(1, job.worker_process_threads) * UNIT,
        "memory": job.worker_memory // job.worker_processes * UNIT,
    }


def declaring(arguments: Iterable[str], declared: Mapping[str, int]) -> tuple[list[str], dict[str, int]]:
    """The arguments of a Dask worker that declares this, and what they declare themselves, which takes precedence.

    Raises:
        ValueError: What they declare is not in the form `gpu=1,cpu=8`.
    """
    others = list(arguments)
    together = dict(declared)
    if RESOURCES in others[:-1]:
        at = others.index(RESOURCES)
        given = others[at + 1]
        del others[at : at + 2]
        for pair in given.strip("'\"").replace(",", " ").split():
            kind, _, amount = pair.partition("=")
            try:
                together[kind.lower()] = units_of(kind, float(amount))
            except ValueError:
                raise ValueError(f"worker_extra_args: {RESOURCES} {given}: must be like gpu=1,cpu=8") from None
    told = ",".join(f"{kind}={amount_of(units)}" for kind, units in together.items())
    return [*others, RESOURCES, told], together
