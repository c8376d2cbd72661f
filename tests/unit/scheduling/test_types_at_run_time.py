"""Constructs for type checkers do no harm at run time."""

from __future__ import annotations

from typing import Any

import pytest

from amltk.scheduling import Comm, Limiter, Limits, Retry, Scheduler, Subscriber, Task
from amltk.scheduling.plugins import GivingPlugin, HoldingPlugin, PassingPlugin, Plugin, WarningFilter
from amltk.testing import ManualExecutor


def test_a_task_takes_two_parameters_or_three() -> None:
    """`Task` has three type parameters, like `Event`: the third, which it submits to, has a default."""
    assert Task[[int], str].__origin__ is Task  # type: ignore[attr-defined]
    assert Task[[int], str, Any].__origin__ is Task  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("plugin", "kind"),
    [
        (Limits(wall_time=1), PassingPlugin),
        (Retry(), PassingPlugin),
        (WarningFilter("ignore"), PassingPlugin),
        (Limiter(max_calls=1), HoldingPlugin),
        (Comm.Plugin(), GivingPlugin),
    ],
)
def test_plugins_say_what_they_do(plugin: Plugin, kind: type[Plugin]) -> None:
    """Each bundled plugin is a `Plugin` of one of the three kinds."""
    assert isinstance(plugin, Plugin)
    assert [k for k in (PassingPlugin, HoldingPlugin, GivingPlugin) if isinstance(plugin, k)] == [kind]


def test_a_subscriber_is_small_and_returns_the_function() -> None:
    """A subscriber has no `__dict__`, and stacked decorators return the function itself."""
    scheduler = Scheduler(ManualExecutor())

    def launch(*_: object) -> None: ...

    assert isinstance(scheduler.on_start, Subscriber)
    assert not hasattr(scheduler.on_start, "__dict__")
    assert scheduler.on_start(scheduler.on_empty(every=2)(scheduler.emitter.on("stop")(launch))) is launch
