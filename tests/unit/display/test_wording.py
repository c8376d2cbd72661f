"""Text for parameters, names, errors, executors, durations and rates."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial
from typing import Any

import pytest

from amltk.display import wording
from amltk.scheduling import Scheduler


def on_trial(future: object, result: int = 10**100, *rest: str, seed: int = 0, **options: Any) -> None: ...


class Study:
    def tell(self, future: object) -> None: ...

    async def ask(self) -> None: ...

    def __call__(self, event: object) -> None: ...


def test_parameters_are_names_without_annotations_and_with_a_sign_for_defaults() -> None:
    """A short signature shows names, kinds and which parameters have defaults, nothing else."""
    assert wording.parameters(on_trial) == "(future, result=…, *rest, seed=…, **options)"


def test_parameters_that_are_bound_already_are_left_out() -> None:
    """A method is shown without its instance, a partial without its bound positional arguments."""
    assert wording.parameters(Study().tell) == "(future)"
    assert wording.parameters(partial(on_trial, None, 1)) == "(*rest, seed=…, **options)"


def test_parameters_that_python_cannot_tell() -> None:
    """A builtin without a signature is shown with an ellipsis."""
    assert wording.parameters(type("Odd", (), {"__signature__": 1, "__call__": len})()) == "(…)"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (on_trial, "on_trial"),
        (Study().tell, "Study.tell"),
        (Study(), "Study"),
        (partial(partial(on_trial, 1), 2), "on_trial"),
        (print, "print"),
    ],
)
def test_names_are_those_that_users_know(function: Any, name: str) -> None:
    """Functions, methods, partials and callable objects have a short name without an address."""
    assert wording.function_name(function) == name


def test_a_local_function_is_shown_by_its_own_name() -> None:
    """A function's name does not include the function in which it was defined."""

    def local() -> None: ...

    assert wording.function_name(local) == "local"


def test_async_functions_are_told_apart() -> None:
    """An `async def` is shown as one, also as a method or in a partial."""
    assert wording.definition(on_trial) == "def"
    assert wording.definition(Study().ask) == "async def"
    assert wording.definition(partial(Study.ask, Study())) == "async def"


def test_what_a_terminal_would_act_upon_is_shown_as_an_escape() -> None:
    """Control characters in users' text never reach the terminal."""
    assert wording.printable("a\x1b[2Jb\nc\u202e") == r"a\x1b[2Jb\nc\u202e"


def test_long_text_is_cut() -> None:
    """Showing a text takes bounded time, whatever its length."""
    assert len(wording.printable("x" * 10**6)) == wording.LONGEST + 1


def test_errors_are_told_on_one_line() -> None:
    """An error is shown with its type and first line, and a mark if there is more."""
    assert wording.error_in_short(ValueError("loss is nan\nat step 3")) == "ValueError: loss is nan …"
    assert wording.error_in_short(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_executors_are_told_by_kind_and_size() -> None:
    """An executor is shown by its kind and, if known, its number of workers; an unknown one by its class."""

    class Cluster(Executor): ...

    assert wording.executor_in_short(Scheduler.with_sequential()) == "sequential"
    assert wording.executor_in_short(Scheduler.with_threads(1)) == "threads · 1 worker"
    assert wording.executor_in_short(Scheduler.with_threads(4)) == "threads · 4 workers"
    assert wording.executor_in_short(Scheduler(Cluster())) == "Cluster"


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0:00"), (7.9, "0:07"), (750, "12:30"), (11100, "3:05:00"), (360000, "100:00:00")]
)
def test_durations(seconds: float, text: str) -> None:
    """Durations have minutes and seconds, and hours where there are any."""
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"), [(0, "0/s"), (12345.67, "12,345.7/s"), (0.5, "30.0/min"), (1 / 600, "6.0/h")]
)
def test_rates_have_the_unit_that_makes_them_readable(per_second: float, text: str) -> None:
    """A rate is shown per second, minute or hour, so that slow runs do not show zeros."""
    assert wording.rate(per_second) == text
