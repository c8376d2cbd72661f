"""WarningFilter: where its filter applies, and what it rejects."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.plugins import WarningFilter
from amltk.testing import ManualExecutor, run_in_virtual_time


def warn() -> str:
    """Emit two kinds of warnings."""
    warnings.warn("of the future", FutureWarning, stacklevel=1)
    warnings.warn("of the user", UserWarning, stacklevel=1)
    return "warned"


def computed(*plugins: WarningFilter) -> list[Any]:
    """The result of a call of `warn`, and the kinds of the warnings it emitted."""
    executor = ManualExecutor()
    scheduler = Scheduler(executor)
    task = scheduler.task(warn, plugins=plugins)
    results: list[Any] = []
    scheduler.on_start(lambda: (task.submit(), executor.compute(0)))
    task.on_result(lambda _, result: results.append(result))
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        run_in_virtual_time(scheduler.async_run())
        assert warnings.filters == before
    return results + [warning.category for warning in given]


def test_the_filter_holds_within_the_call() -> None:
    """Ignored warnings are not emitted; all others are, and afterwards the filters are as before."""
    assert computed() == ["warned", FutureWarning, UserWarning]
    assert computed(WarningFilter("ignore", category=FutureWarning)) == ["warned", UserWarning]
    assert computed(WarningFilter("ignore", "of the")) == ["warned"]


def test_two_filters() -> None:
    """A second filter with another name applies in addition to the first, and takes precedence."""
    second = WarningFilter("ignore")
    second.name = "second"
    assert computed(WarningFilter("always", category=UserWarning), second) == ["warned", UserWarning]


def test_a_warning_can_fail_a_call() -> None:
    """With "error" the call raises the warning, and no filter remains."""
    plugin = WarningFilter("error", category=FutureWarning)
    submission = plugin.pre_submit(warn)
    assert submission is not None
    before = list(warnings.filters)
    with pytest.raises(FutureWarning, match="of the future"):
        submission[0]()
    assert warnings.filters == before


def test_the_filter_travels() -> None:
    """A pickled filter works in a worker as it does here."""
    submission = WarningFilter("ignore").pre_submit(warn)
    assert submission is not None
    assert pickle.loads(pickle.dumps(submission[0]))() == "warned"


@pytest.mark.parametrize("args", [("shout",), ("ignore", 3)])
def test_a_wrong_filter_is_refused_at_once(args: Any) -> None:
    """Arguments that Python does not accept as a filter raise where the plugin is created, not in a worker."""
    with pytest.raises((ValueError, TypeError)):
        WarningFilter(*args)


def test_its_status_is_the_filter() -> None:
    """Displays show the filter as it was written."""
    assert WarningFilter("ignore", lineno=3).status() == "'ignore', lineno=3"
