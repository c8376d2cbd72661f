"""What is logged about processes, and where log records from functions in workers go."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool
from tests.helpers.script import run_script

if TYPE_CHECKING:
    import pytest


def identity(x: int) -> int:
    return x


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_records_do_not_grow_with_the_calls(caplog: pytest.LogCaptureFixture) -> None:
    """At INFO, a run of 1,000 calls on processes logs the same as a run of one call."""
    logged = []
    for n in (1, 1000):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="amltk"):
            scheduler = Scheduler.with_processes(1)
            task = scheduler.task(identity)
            scheduler.on_start(lambda task=task, n=n: [task.submit(i) for i in range(n)])
            scheduler.run()
        logged.append([record.getMessage() for record in caplog.records])
    assert (
        logged[0]
        == logged[1]
        == [
            "made ProcessPool(max_workers=1)",
            "run started on ProcessPool(max_workers=1)",
            "run is ending: EXHAUSTED",
            "shut down ProcessPool(max_workers=1)",
            "run is over: EXHAUSTED",
        ]
    )


def test_the_life_of_workers_is_for_debugging(caplog: pytest.LogCaptureFixture) -> None:
    """Starts and ends of workers are logged at DEBUG, with pid, exit code and reason."""
    with caplog.at_level(logging.DEBUG, logger="amltk"), ProcessPool(1) as pool:
        (first,) = {pool.submit(os.getpid).result()}
        assert pool.submit(kill_me).exception() is not None
        second = pool.submit(os.getpid).result()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", f"worker {first} was started by forkserver"),
        ("DEBUG", f"worker {first} has ended, exit code -9: not killed by the pool"),
        ("DEBUG", f"worker {second} was started by forkserver"),
        ("DEBUG", f"worker {second} has ended, exit code 0: not killed by the pool"),
    ]


def need_licence() -> None:
    sys.exit("no licence")  # what a parent calls sys.exit may be another function: wandb replaces it


def test_an_initializer_that_fails_once_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """It costs no call, so nothing else reports it: it is logged as a warning."""
    with ProcessPool(1, initializer=need_licence) as pool:
        assert pool.submit(identity, 1).exception() is not None
    texts = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(texts) == 2, "the third failure breaks the pool, and is its error"
    assert all("no licence" in text and text.endswith("another one is started") for text in texts)


def test_records_of_functions_in_workers() -> None:
    """They belong to the worker: warnings go to the common stderr, the rest where its initializer directs it."""
    ended = run_script(
        """
        import logging
        from amltk.scheduling import Scheduler

        logging.basicConfig(level=logging.ERROR, format="of the parent: %(message)s")

        def work():
            logging.getLogger("work").info("begun")
            logging.getLogger("work").warning("careful")

        def set_up():
            logging.basicConfig(level=logging.INFO, format="%(processName)s %(name)s: %(message)s")

        for initializer in (None, set_up):
            scheduler = Scheduler.with_processes(1, initializer=initializer)
            scheduler.on_start(lambda: scheduler.submit(work))
            scheduler.run()
        """
    )
    assert ended.code == 0
    assert ended.errors.splitlines() == ["careful", "MainProcess work: begun", "MainProcess work: careful"]


def test_what_would_go_wrong_unseen_is_shown() -> None:
    """An exception in a callback that does not end the run is logged as an error, even if logging is not set up."""
    program = """
        import logging
        from amltk.scheduling import Scheduler
        {}
        scheduler = Scheduler.with_sequential()

        @scheduler.on_start
        def wrong():
            1 / 0

        scheduler.run(on_callback_exception="continue")
        """
    for set_up, before in (("", ""), ("logging.basicConfig()", "ERROR:amltk.scheduling._run.end_requests:")):
        shown = run_script(program.format(set_up)).errors
        assert shown.startswith(f"{before}callback wrong of @start raised, and the run goes on\n")
        assert shown.endswith("ZeroDivisionError: division by zero\n")
