"""How modules log: each through its own logger, at no cost if logging is off."""

from __future__ import annotations

import ast
import logging
from typing import TYPE_CHECKING, Any

from amltk.scheduling import Scheduler
from tests.helpers import sources

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """The calls in a module that log or get a logger, each with the called name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            is_module = isinstance(owner, ast.Name) and owner.id == "logging"
            if is_module or (node.func.attr in METHODS and "log" in ast.unparse(owner).lower()):
                yield node, ast.unparse(node.func)


def test_every_module_logs_through_its_own_logger() -> None:
    """Each logger is `_log`, named like its module; messages are literals, so disabled logging formats nothing."""
    found = [
        (f"{module}:{call.lineno}", call, called)
        for module, tree in sources.trees().items()
        for call, called in calls(tree)
    ]
    assert found
    for where, call, called in found:
        if called == "logging.getLogger" and isinstance(call.args[0], ast.Constant):
            # The server's own logger, turned down at its end; and that of the class that ours takes the place of.
            assert call.args[0].value.startswith(("uvicorn", "concurrent.futures")), where
        elif ast.unparse(call) == "logging.getLogger(type(exporter).__module__)":
            pass  # a library's logger, whose repetitions are kept out of the log
        elif called.startswith("logging."):
            assert ast.unparse(call) == "logging.getLogger(__name__)", where
        else:
            assert called.partition(".")[0] == "_log", where
            message, *arguments = call.args
            assert isinstance(message, ast.Constant), where
            parts = [part for argument in arguments for part in ast.walk(argument)]
            assert not any(isinstance(part, ast.JoinedStr) for part in parts), where


def test_nothing_is_both_logged_and_raised_again() -> None:
    """Code that handles an exception either reports it or lets it propagate."""
    for module, tree in sources.trees().items():
        for handler in ast.walk(tree):
            if isinstance(handler, ast.ExceptHandler) and any(calls(handler)):
                raises = any(isinstance(node, ast.Raise) for node in ast.walk(handler))
                assert not raises, f"{module}:{handler.lineno}"


def run(n: int, **options: Any) -> None:
    """Compute this many calls; every second one fails."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(divide)
    scheduler.on_start(lambda: [task.submit(1, i % 2) for i in range(n)])
    task.on_done(lambda _: None)
    scheduler.run(on_exception="continue", **options)


def divide(a: int, b: int) -> float:
    return a / b


def test_what_is_logged_of_a_run(caplog: pytest.LogCaptureFixture) -> None:
    """The log covers the life of the executor and of the run, whatever the number of calls, outcomes and level."""
    for level in (logging.INFO, logging.DEBUG):
        for n in (1, 1000):
            caplog.clear()
            with caplog.at_level(level, logger="amltk"):
                run(n)
            records = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
            assert records == [
                ("amltk.scheduling.scheduler", "INFO", "made SequentialExecutor()"),
                ("amltk.scheduling._run.run", "INFO", "run started on SequentialExecutor()"),
                ("amltk.scheduling._run.run", "INFO", "run is ending: EXHAUSTED"),
                ("amltk.scheduling.executors.adapter", "INFO", "shut down SequentialExecutor()"),
                ("amltk.scheduling._run.run", "INFO", "run is over: EXHAUSTED"),
            ]


def test_the_reason_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The message of `stop` is logged, and so is that nothing was waited for."""
    scheduler = Scheduler.with_sequential()
    scheduler.on_start(lambda: scheduler.stop(stop_msg="enough"))
    with caplog.at_level(logging.INFO, logger="amltk"):
        scheduler.run(wait=False)
    assert [record.getMessage() for record in caplog.records][1:] == [
        "run is ending: enough",
        "ended SequentialExecutor() without waiting for its work",
        "run is over: STOPPED",
    ]


def test_what_is_shown_is_up_to_the_program() -> None:
    """The package sets neither a handler nor a level.

    Not even a NullHandler: in programs that do not configure logging, it would suppress the warnings and errors that
    Python shows by default, and an exception of a callback may not be reported anywhere else.
    """
    logger = logging.getLogger("amltk")
    assert (logger.handlers, logger.level, logger.propagate) == ([], logging.NOTSET, True)
