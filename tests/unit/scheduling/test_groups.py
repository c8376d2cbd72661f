"""An exception group is matched by its own type, as with `except`: its members do not count."""

from __future__ import annotations

from typing import Any

import pytest

from amltk.scheduling import Retry, Scheduler
from amltk.testing import SimulatedExecutor, run_in_virtual_time

GROUP = ExceptionGroup("two parts failed", [ValueError("one"), ValueError("other")])
INTERRUPTED = BaseExceptionGroup("two parts ended", [SystemExit(1), ValueError("other")])


def run(error: BaseException, plugins: Any = (), **options: Any) -> tuple[Any, Scheduler, int]:
    """Run a task whose calls raise `error`."""
    attempts = 0

    def outcome(*_: Any) -> None:
        nonlocal attempts
        attempts += 1
        raise error

    scheduler = Scheduler(SimulatedExecutor(1, outcome=outcome))
    task = scheduler.task(print, plugins=plugins)
    scheduler.on_start(lambda: task.submit())
    return run_in_virtual_time(scheduler.async_run(**options)), scheduler, attempts


def test_a_group_of_value_errors_is_no_value_error() -> None:
    """A group of ValueErrors does not match `ValueError`: it is raised, and keeps its members."""
    with pytest.raises(ExceptionGroup) as caught:
        run(GROUP, on_exception={ValueError: "continue"})
    assert caught.value is GROUP


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ({ExceptionGroup: "continue"}, "EXHAUSTED"),
        ({BaseExceptionGroup: "continue"}, "EXHAUSTED"),
        ({Exception: "continue"}, "EXHAUSTED"),
        ({ValueError: "continue", ExceptionGroup: "end"}, "EXCEPTION"),
        ({ExceptionGroup: "end", Exception: "continue"}, "EXCEPTION"),
    ],
)
def test_a_group_is_matched_by_its_own_type(policy: Any, code: str) -> None:
    """`ExceptionGroup` and its base classes match, in the order given."""
    state, _, _ = run(GROUP, on_exception=policy)
    assert state.code.name == code
    assert state.exceptions == 1


def test_a_group_with_more_than_exceptions_is_an_outcome_too() -> None:
    """A group with more than `Exception` members matches `BaseExceptionGroup`, not `ExceptionGroup`."""
    state, _, _ = run(INTERRUPTED, on_exception={ExceptionGroup: "end", BaseExceptionGroup: "continue"})
    assert state.code.name == "EXHAUSTED"


@pytest.mark.parametrize(("on", "attempts"), [(ValueError, 1), (ExceptionGroup, 3), ((KeyError, ExceptionGroup), 3)])
def test_retry_does_as_the_policies_do(on: Any, attempts: int) -> None:
    """A call is retried for the group's type, not for its members."""
    _, _, made = run(GROUP, plugins=Retry(on, wait=0), on_exception="continue")
    assert made == attempts
