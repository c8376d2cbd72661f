"""A missing library raises a one-line error that says how to install it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import MissingExtraError
from amltk.scheduling import Scheduler
from amltk.scheduling.queue_monitor import QueueMonitor
from amltk.scheduling.timeline import Telemetry, Timeline
from amltk.testing import ManualExecutor

if TYPE_CHECKING:
    from collections.abc import Callable

CASES: dict[str, tuple[Callable[[Scheduler], Any], str, str]] = {
    "Timeline.df": (lambda scheduler: Timeline(scheduler).df(), "pandas", "monitor"),
    "Timeline.export_spans": (lambda scheduler: Timeline(scheduler).export_spans(), "opentelemetry", "otel"),
    "Telemetry": (Telemetry, "opentelemetry", "otel"),
    "QueueMonitor.df": (lambda scheduler: QueueMonitor(scheduler).df(), "pandas", "monitor"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_message_is_the_pip_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the missing library and the extra that installs it."""
    use, library, extra = CASES[name]
    for module in list(sys.modules):
        is_user = module.startswith("amltk.") and module.endswith((".frame", ".spans", ".otlp"))
        if is_user or module.startswith(f"{library}."):  # which would be found, although the library is not
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"{library}.*pip install 'amltk\[{extra}\]'"):
        use(Scheduler(ManualExecutor()))
