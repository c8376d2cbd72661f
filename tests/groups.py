"""Which tests one process has to run, one after the other, where two processes run the tests side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

HERE = Path(__file__).parent

MACHINE_WIDE = {"ray", "slurm"}
"""Clusters of the contract tests of which a machine has one at a time; `test_clusters` starts them too."""


def group_of(item: pytest.Item) -> str:
    """The tests of a file, which share its fixtures; in the contract those of an executor, which share its cluster."""
    place = item.path.relative_to(HERE)
    if place.name == "test_clusters.py":
        return "clusters"
    if place.parts[0] != "contract":
        return place.as_posix()
    backend = str(getattr(item, "callspec", None) and item.callspec.params.get("backend"))  # type: ignore[attr-defined]
    return "clusters" if backend in MACHINE_WIDE else f"contract on {backend}"
