"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from amltk.scheduling.executors.process_pool._state import lock_order
from tests import leaks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.helpers.browser import Window

settings.register_profile("dev", deadline=None)  # a noisy machine is not a bug
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

lock_order.check_order = True  # a pool breaks if a thread acquires its locks in another order

# Without byte code on disk, each of the thousands of processes started by tests compiles the package again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start background jobs like this; tests of Ctrl-C would wait in vain.
    signal.signal(signal.SIGINT, signal.default_int_handler)
for ignored in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        # By nohup, and by such shells; programs of tests would ignore that their terminal is closed, or Ctrl-\.
        signal.signal(ignored, signal.SIG_DFL)

if "PYTEST_XDIST_WORKER" in os.environ and os.getpgrp() != os.getpid():
    # MPICH kills the process group of a killed process that had started ranks. pytest-xdist kills workers that need
    # more than ten seconds to exit. Without a separate process group, pytest and make would be killed too.
    os.setpgid(0, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Keep tests that share something on one worker when several processes run the tests (`-n 2 --dist loadscope`)."""
    from tests import groups  # unavailable without pytest-xdist

    return groups.Scheduling(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_collection_finish() -> None:
    """Make `gc.collect()` skip permanent objects: a million objects of pytest and of the test modules.

    Raises:
        UsageError: A test module has imported a library that changes what Ctrl-C does, or how exceptions are pickled
            (`distributed` does so, with tblib), for all tests. Import it in the tests or fixtures that need it.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:
        raise pytest.UsageError(f"a test module has imported what handles Ctrl-C, for all tests: {handler!r}")
    if "tblib" in sys.modules:
        raise pytest.UsageError(
            "a test module has imported tblib, which changes how exceptions are pickled, for all tests"
        )
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Fail any test that leaves a thread, a process, a signal handler or a file descriptor behind."""
    before = leaks.Holdings.now()
    yield
    left = leaks.since(before)
    leaks.restore_handlers(before)
    if left:
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads switch as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def open_window() -> Iterator[Callable[..., Window]]:
    """Opens windows of a real browser that can access only files; see `tests.helpers.browser`."""
    from tests.helpers import browser  # tests of the core run without its packages

    with browser.windows() as open_window:
        yield open_window
