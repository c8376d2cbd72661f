"""A pool signals only processes that it has started, never the program itself or others of the same job."""

from __future__ import annotations

import pytest

from tests.helpers.script import run_script

PROGRAM = """
    import logging, os, signal

    from amltk.scheduling import Scheduler

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    forks = []

    def die():
        if len(forks) <= {n_deaths}:
            os.kill(os.getpid(), signal.SIGKILL)

    os.register_at_fork(before=lambda: forks.append(1), after_in_child=die)
    scheduler = Scheduler.with_processes(1, mp_context="fork")
    scheduler.on_start(lambda: scheduler.submit(abs, -1))
    scheduler.on_future_result(lambda _, result: print(result))
    scheduler.on_future_exception(lambda _, error: print(error))
    try:
        print(scheduler.run(on_exception="continue", display=False).code.name)
    except Exception as error:
        print(type(error).__name__)
    """


@pytest.mark.parametrize(
    ("n_deaths", "lines", "n_warnings"),
    [
        (1, ["1", "EXHAUSTED"], 1),
        (
            9,
            [
                "a worker ended together with the process that starts it, before it was initialised; that happened 3"
                " times in succession",
                "ExecutorBrokenError",
            ],
            2,
        ),
    ],
)
def test_a_supervisor_that_is_killed_before_it_starts_its_worker(
    n_deaths: int, lines: list[str], n_warnings: int
) -> None:
    """Another supervisor is started; the program, whose process group differs from any worker's, is not killed."""
    ended = run_script(PROGRAM.format(n_deaths=n_deaths))
    assert (ended.code, ended.lines) == (0, lines), ended.errors
    warning = (
        "a worker ended together with the process that starts it, before it was initialised; another one is started"
    )
    assert ended.errors.splitlines() == [warning] * n_warnings
