"""Groups of tests that must run in one process, one after the other, when several processes run tests in parallel."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Collection

MACHINE_WIDE = {"ray", "slurm", "slurm-jobs"}
"""Clusters of the contract tests that can run only once per machine."""

START_THEM_TOO = (
    "test_clusters.py",
    "test_cluster_resources.py",
    "test_cluster_starts.py",
    "test_comm_on_clusters.py",
    "test_dask_leases.py",
    "test_lost_jobs.py",
    "test_max_workers.py",
    "test_remote_results.py",
    "test_slurm_jobs.py",
    "test_slurm_variables.py",
    "test_timeout_from_worker.py",
)
"""Files of other tests that start such clusters."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Sends groups of tests to the pytest-xdist workers in the order in which they were collected.

    Not by marks and `--dist loadgroup`: xdist 3.8 puts group names where pytest 9.2 does not look.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


READ_THE_SOURCES = ("unit/test_clock.py", "unit/test_compat.py", "unit/test_logging.py")
"""Files of tests that look at the package's source, which is parsed once in each process."""


def group_of(test: str) -> str:
    """The group of a test: its file, which shares fixtures; in the contract its executor, which shares a cluster.

    Args:
        test: A test's pytest id, such as `tests/contract/test_order.py::test_priorities[processes-2]`.
    """
    file, _, name = test.partition("::")
    if file.endswith(START_THEM_TOO):
        return "clusters"
    if file.endswith(READ_THE_SOURCES):
        return "sources"
    if "contract" not in file.split("/"):
        return file
    parameters = f"-{name.partition('[')[2].removesuffix(']')}-"
    named = (executor for executor in executors() if f"-{executor}-" in parameters)
    executor = max(named, key=len, default="none")  # "given-dask", not "dask"
    return "clusters" if executor in MACHINE_WIDE else f"contract on {executor}"


@cache
def executors() -> Collection[str]:
    """The names of the executors in the contract tests."""
    from tests.contract.backends import BACKENDS
    from tests.contract.strangers import STRANGERS

    return [entry.name for entry in (*BACKENDS, *STRANGERS)]
