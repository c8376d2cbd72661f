"""Runs CPython's own executor tests against `ProcessPool`: `python adapter.py test_wait` runs one of their modules.

Prints a JSON object: how many tests ran, which failed and how, which were skipped and why.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import importlib
import io
import json
import multiprocessing.resource_tracker
import sys
import unittest
from pathlib import Path
from typing import Any

import psutil

from amltk.exceptions import PoolBrokenError, RemoteTraceback, WorkerLostError
from amltk.scheduling.executors import ProcessPool

EXCLUDED = {
    # Tests that use or set up the internals of ProcessPoolExecutor.
    "FailingInitializerTest.test_initializer": "waits for a message of its logger; here the error has the traceback",
    "test_processes_terminate": "counts processes while calls fail that were given a semaphore, which cannot travel",
    "test_saturation": "counts processes while calls fail that were given a semaphore, which cannot travel",
    "test_del_shutdown": "joins its _executor_manager_thread and _call_queue",
    "test_shutdown_no_wait": "joins its _executor_manager_thread and _call_queue",
    "test_shutdown_deadlock_pickle": "joins its _executor_manager_thread",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "replaces the run() of its _ExecutorManagerThread",
    "test_python_finalization_error": "replaces the function that starts its second thread; this pool has one",
    "test_max_tasks_per_child_defaults_to_spawn_context": "looks at its _mp_context; here the default serves",
    "test_terminate_workers": "replaces its _force_shutdown",
    "test_kill_workers": "replaces its _force_shutdown",
    "test_force_shutdown_workers_invalid_op": "calls its _force_shutdown",
    "test_force_shutdown_workers": "looks at what it calls of its Process objects",
    "test_shutdown_gh_132969_case_1": "waits for its _executor_manager_thread",
    "test_shutdown_gh_132969_case_2": "waits for its _executor_manager_thread",
    "test_max_workers_negative": "looks for other words in the message",
    # Tests whose promises differ here: see the guide.
    "test_cancel_futures": "wants one to have begun right after it was submitted; here all are cancelled",
    "test_submit_after_interpreter_shutdown": "is to be refused; here what an atexit handler submits is computed",
    "test_killed_child": "a lost worker is to break the pool; here it costs one call",
    "test_max_tasks_per_child": "is to be refused with fork; here every start method can do it",
    "test_exit_at_task_unpickle": "is to break the pool; here the call fails with the SystemExit",
    "test_error_at_task_unpickle": "is to break the pool; here the call fails with the error",
    "test_error_during_result_unpickle_in_result_handler": "is to break the pool; here the call fails with the error",
    "test_exit_during_result_unpickle_in_result_handler": "is to break the pool; here the call fails with SystemExit",
}


class Process:
    """A worker as the tests see it."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.terminate = self._process.terminate

    def join(self, timeout: float | None = None) -> None:
        psutil.wait_procs([self._process], timeout)

    def is_alive(self) -> bool:
        return self._process.is_running()


class ProcessPoolExecutor(ProcessPool):
    """`ProcessPool` under the standard library's name, with the one internal attribute that behaviour tests use."""

    @property
    def _processes(self) -> dict[int, Process]:
        return {pid: Process(pid) for pid in self.worker_pids}

    terminate_workers = ProcessPool.kill_workers  # new in CPython 3.14


def install() -> None:
    """Replace the standard library's pool with ours."""
    # Type checkers cannot express a patched module.
    for module in map(vars, (concurrent.futures, concurrent.futures.process)):
        module["ProcessPoolExecutor"] = ProcessPoolExecutor
        module["BrokenProcessPool"] = (PoolBrokenError, WorkerLostError)
        module["_RemoteTraceback"] = RemoteTraceback


def install_in_scripts() -> None:
    """Do the same in the scripts that tests run."""
    helper: Any = importlib.import_module("test.support.script_helper")
    run = helper.assert_python_ok
    path = [str(Path(__file__).parent), *sys.path]
    begin = f"import sys; sys.path[:0] = {path!r}; import adapter; adapter.install()\n"

    def run_with_our_pool(option: str, script: str) -> Any:
        return run(option, begin + script)

    helper.assert_python_ok = run_with_our_pool


def is_ours(test: unittest.TestCase) -> bool:
    """Whether it tests the process pool and its behaviour."""
    name = f"{type(test).__name__}.{test._testMethodName}"
    return name.startswith("ProcessPool") and not any(name.endswith(excluded) for excluded in EXCLUDED)


def cases(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    found: list[unittest.TestCase] = []
    for test in suite:
        found += cases(test) if isinstance(test, unittest.TestSuite) else [test]
    return found


def main(module_name: str) -> None:
    install()
    install_in_scripts()
    multiprocessing.resource_tracker.ensure_running()  # the tests stop it, and this pool does not start it
    importlib.import_module("test.support").verbose = False  # type: ignore[attr-defined]
    module = importlib.import_module(f"test.test_concurrent_futures.{module_name}")
    suite = unittest.TestSuite(filter(is_ours, cases(unittest.defaultTestLoader.loadTestsFromModule(module))))
    result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    report = {
        "ran": result.testsRun,
        "failed": {test.id(): text for test, text in [*result.failures, *result.errors]},
        "skipped": {test.id(): reason for test, reason in result.skipped},
    }
    print(json.dumps(report))  # noqa: T201 - for the one who has started this


if __name__ == "__main__":
    main(sys.argv[1])
