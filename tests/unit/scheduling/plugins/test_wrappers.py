"""What is sent instead of a function can be sent wherever the function can."""

from __future__ import annotations

import pickle
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from amltk.scheduling.executors.allowance import (
    Allowance,
    AllowedFunction,
    FunctionInOwnProcess,
    FunctionWithLentDevices,
)
from amltk.scheduling.executors.process_pool.limits import CallLimits
from amltk.scheduling.plugins.limits import LimitedFunction
from amltk.scheduling.plugins.remote_results import Leaving
from amltk.scheduling.plugins.wrapping import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable


def double(x: int) -> int:
    """Twice as much."""
    return 2 * x


double.__annotations__ = {"x": threading.Lock()}  # such as a local class, or what a library puts there
double.__type_params__ = (TypeVar("T"),)  # type: ignore[attr-defined] # from CPython 3.12 on

ALLOWED = AllowedFunction(double, {}, None)

WRAPPERS: dict[str, Callable[[], Any]] = {
    "limits": lambda: LimitedFunction(double, CallLimits()),
    "a context": lambda: Wrapper(double, nullcontext),
    "a result that stays": lambda: Leaving(double),
    "resources": lambda: AllowedFunction(double, {}, None),
    "a process": lambda: FunctionInOwnProcess(ALLOWED, None, None),
    "lent devices": lambda: FunctionWithLentDevices(double, Allowance({}, None, None, None), nullcontext, 1),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("make", WRAPPERS.values(), ids=WRAPPERS)
def test_what_stands_for_a_function_can_be_sent(make: Callable[[], Any]) -> None:
    """Annotations and type parameters need not be pickled; the names are those of the function."""
    arrived = pickle.loads(pickle.dumps(make()))
    assert (arrived.__name__, arrived.__qualname__, arrived.__doc__) == ("double", "double", "Twice as much.")
    assert arrived.__module__ == double.__module__
    assert arrived.__wrapped__ in {double, arrived.function}
