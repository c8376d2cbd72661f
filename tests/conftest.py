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

settings.register_profile("dev", deadline=None)  # a noisy machine is no bug
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

lock_order.check_order = True  # a pool breaks if a thread waits for its locks in another order

# Without byte code on disk, each of the thousands of processes that tests start compiles the package again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell starts what runs in the background; tests of Ctrl-C would wait in vain.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ and os.getpgrp() != os.getpid():
    # MPICH kills the process group of a killed process that had started ranks. pytest-xdist kills its workers if they
    # need more than ten seconds to end. Without a group of their own, pytest and make would be killed too.
    os.setpgid(0, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Keep together what shares something, where several processes run the tests (`-n 2 --dist loadscope`)."""
    from tests import groups  # not without pytest-xdist

    return groups.Scheduling(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_collection_finish() -> None:
    """Let `gc.collect()` pass over what stays to the end: a million objects of pytest and of the modules of tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Fail the test that leaves a thread, a process, a signal handler or a file descriptor behind."""
    before = leaks.Holdings.now()
    yield
    left = leaks.since(before)
    leaks.restore_handlers(before)
    if left:
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def open_window() -> Iterator[Callable[..., Window]]:
    """Opens windows of a real browser, which can reach files only; see `tests.helpers.browser`."""
    from tests.helpers import browser  # not needed by the tests of the core, which run without its packages

    with browser.windows() as open_window:
        yield open_window
