"""Two processes that run the tests side by side split them into groups, each kept whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.groups import group_of

ROOT = Path(__file__).parents[2]

FILES = ("tests/unit/test_doc.py", "tests/unit/test_guard.py", "tests/unit/test_labels.py")


@pytest.mark.parametrize(
    ("test", "group"),
    [
        ("tests/unit/test_doc.py::test_no_width_is_refused", "tests/unit/test_doc.py"),
        ("tests/unit/test_clock.py::test_nothing_else_reads_the_time_of_day", "sources"),
        ("tests/contract/test_order.py::test_a_priority[processes]", "contract on processes"),
        ("tests/contract/test_ending.py::test_stop[given-dask-end]", "contract on given-dask"),
        ("tests/contract/test_ending.py::test_stop[end-dask-client]", "contract on dask-client"),
        ("tests/contract/test_ending.py::test_stop[ray]", "clusters"),
        ("tests/contract/test_ending.py::test_stop[slurm-1-[2]]", "clusters"),
        ("tests/contract/test_ending.py::test_stop[slurm-jobs-1]", "clusters"),
        ("tests/integration/test_slurm_jobs.py::test_a_call_is_a_job", "clusters"),
        ("tests/integration/test_clusters.py::test_the_demo_on_slurm", "clusters"),
        ("tests/integration/test_cluster_resources.py::test_ray_grants_what_calls_ask_for", "clusters"),
        (
            "tests/integration/test_remote_results.py::test_callbacks_fetch_what_they_want[with_processes(2)]",
            "clusters",
        ),
    ],
)
def test_what_a_test_shares(test: str, group: str) -> None:
    """Tests of a file share its fixtures; the contract tests share a cluster."""
    assert group_of(test) == group


def test_a_process_runs_a_group_whole() -> None:
    """No file is split between the processes."""
    command = [sys.executable, "-m", "pytest", "-v", "-n", "2", "--dist", "loadscope", "--no-loadscope-reorder", *FILES]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    places = set(re.findall(r"^\[(gw\d)\].* (tests/unit/\w+\.py)::", ended.stdout, re.MULTILINE))
    assert sorted(file for _, file in places) == list(FILES)
