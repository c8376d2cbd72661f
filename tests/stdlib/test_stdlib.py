"""The standard library's executor tests, as far as they test behaviour, pass for `ProcessPool`.

Not every distribution of CPython includes its tests. `.ci/run` runs this with every CPython on the machine.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 300.0
"""Seconds after which a module counts as hung."""

is_there = importlib.util.find_spec("test") and importlib.util.find_spec("test.test_concurrent_futures")


@pytest.mark.skipif(not is_there, reason="this CPython was installed without test.test_concurrent_futures")
@pytest.mark.parametrize(
    "module", ["test_process_pool", "test_shutdown", "test_wait", "test_as_completed", "test_deadlock", "test_init"]
)
def test_the_standard_librarys_own_tests(module: str, tmp_path: Path) -> None:
    """`adapter.py` lists what is excluded, and why."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", Path(__file__).with_name("adapter.py"), module],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout.splitlines()[-1])
    assert not report["failed"], "\n".join(report["failed"].values())
    assert report["ran"] > len(report["skipped"])
