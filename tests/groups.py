"""Which tests one process has to run, one after the other, where two processes run the tests side by side."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Collection

MACHINE_WIDE = {"ray", "slurm"}
"""Clusters of the contract tests of which a machine has one at a time; `test_clusters` starts them too."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Sends groups of tests to the processes of pytest-xdist, in the order in which they were collected.

    Not by marks and `--dist loadgroup`: xdist 3.8 puts their names where pytest 9.2 does not look.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(test: str) -> str:
    """The tests of a file, which share its fixtures; in the contract those of an executor, which share its cluster.

    Args:
        test: A test as pytest names it, such as `tests/contract/test_order.py::test_priorities[processes-2]`.
    """
    file, _, name = test.partition("::")
    if file.endswith("test_clusters.py"):
        return "clusters"
    if "contract" not in file.split("/"):
        return file
    parameters = f"-{name.partition('[')[2].removesuffix(']')}-"
    named = (executor for executor in executors() if f"-{executor}-" in parameters)
    executor = max(named, key=len, default="none")  # "given-dask", not "dask"
    return "clusters" if executor in MACHINE_WIDE else f"contract on {executor}"


@cache
def executors() -> Collection[str]:
    """The names of the executors that are held to the contract."""
    from tests.contract.backends import BACKENDS
    from tests.contract.strangers import STRANGERS

    return [entry.name for entry in (*BACKENDS, *STRANGERS)]
