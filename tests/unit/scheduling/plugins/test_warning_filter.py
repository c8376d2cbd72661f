"""WarningFilter: the filters of `warnings`, around a call."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.plugins import WarningFilter
from tests.unit.program import Program


def warn(category: type[Warning] = UserWarning) -> str:
    """What is computed."""
    warnings.warn("look", category, stacklevel=1)
    return "done"


def computed_with(plugin: WarningFilter, *args: Any) -> Any:
    """What has come of a call of `warn` with the plugin."""
    program = Program()
    program.task = program.scheduler.task(warn, plugins=plugin)
    program.scheduler.on_start(lambda: program.task.submit(*args))
    program.task.on_submitted(lambda *_: program.executor.compute(0))
    found: list[Any] = []
    program.task.on_result(lambda _, result: found.append(result))
    program.task.on_exception(lambda _, error: found.append(type(error)))
    program.run(on_exception="continue")
    return found[0]


def test_filters_hold_for_the_call() -> None:
    """A filter holds while the call is computed, and those from before are back afterwards."""
    before = list(warnings.filters)
    assert computed_with(WarningFilter("ignore")) == "done"
    assert computed_with(WarningFilter("ignore", category=FutureWarning), FutureWarning) == "done"
    assert computed_with(WarningFilter("ignore", category=FutureWarning)) is UserWarning
    assert warnings.filters == before


def test_overlapping_calls_in_threads() -> None:
    """Of two calls that overlap in threads, the one that ends first does not take the filter from the other."""
    first_is_in, first_is_over = threading.Event(), threading.Event()

    def first() -> None:
        first_is_in.set()
        second_is_in.wait()

    second_is_in = threading.Event()

    def second() -> str:
        first_is_in.wait()
        second_is_in.set()
        first_is_over.wait()
        return warn()

    before = list(warnings.filters)
    scheduler = Scheduler.with_threads(2)
    tasks = [scheduler.task(fn, plugins=WarningFilter("ignore")) for fn in (first, second)]
    scheduler.on_start(lambda: [task.submit() for task in tasks])
    tasks[0].on_done(lambda _: first_is_over.set())
    results: list[str] = []
    tasks[1].on_result(lambda _, result: results.append(result))
    scheduler.run()
    assert results == ["done"]
    assert warnings.filters == before


@pytest.mark.parametrize(
    ("args", "kwargs", "error"),
    [(("ignroe",), {}, ValueError), (("ignore",), {"message": 3}, (TypeError, ValueError)), ((), {}, TypeError)],
)
def test_bad_filters(args: tuple[Any, ...], kwargs: dict[str, Any], error: Any) -> None:
    """What Python takes for no filter is an error when the plugin is made."""
    with pytest.raises(error):
        WarningFilter(*args, **kwargs)


def test_status() -> None:
    """Displays show what it was given."""
    assert WarningFilter("ignore", module="numpy").status() == "'ignore', module='numpy'"
