"""How things are put into words: names, signatures, numbers and durations, all short and safe to print."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from amltk.scheduling._admission.words import pool_text, waits_text
from amltk.scheduling.events import callback_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from amltk.scheduling.executors.cluster_workers import ClusterWorkers
    from amltk.scheduling.scheduler import Scheduler
    from amltk.scheduling.snapshot import PoolUse, Waits

P = inspect.Parameter

LONGEST = 300
"""How many characters of a user's text are shown; no screen has more on a line."""

SECONDS_PER_MINUTE = 60
SECONDS_PER_HOUR = 3600


def printable(text: str) -> str:
    """The text on one line, shortened if too long, with control characters written as escape sequences."""
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def function_name(function: Callable[..., Any]) -> str:
    """The name by which users know a function, method, partial or callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    has_name = isinstance(getattr(function, "__name__", None), str)
    return printable(callback_name(function) if has_name else type(function).__qualname__)


def parameters(function: Callable[..., Any]) -> str:
    """The parameters of a function, by name only: `(trial, lr=…, *, seed=…)`; `(…)` if Python cannot tell."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return "(…)"
    given = [
        parameter.replace(annotation=P.empty, default=P.empty if parameter.default is P.empty else _SOMETHING)
        for parameter in signature.parameters.values()
    ]
    return printable(str(inspect.Signature(given)).replace("= …", "=…"))


class _Something:
    """Stands for any default value, whose own repr may be long."""

    def __repr__(self) -> str:
        return "…"


_SOMETHING = _Something()


def definition(function: Callable[..., Any]) -> str:
    """The keyword that a function is defined with."""
    plain = function.func if isinstance(function, functools.partial) else function
    return "async def" if inspect.iscoroutinefunction(plain) else "def"


def error_in_short(error: BaseException) -> str:
    """Type and message of an error, on one line."""
    try:
        message = str(error).strip()
    except Exception as failure:  # noqa: BLE001 - the user's own __str__ failed; reported instead
        message = f"its str() raises {type(failure).__name__}"
    first, _, more = message.partition("\n")
    kind = type(error).__name__
    return printable(f"{kind}: {first}{' …' if more else ''}" if first else kind)


def executor_in_short(scheduler: Scheduler) -> str:
    """Kind and size of the executor: `processes · 4 workers`."""
    kind = scheduler.executor_kind
    executor = scheduler.executor
    name = kind.name if kind.factory is not None else type(executor).__name__
    workers = scheduler.n_workers
    if workers is None or kind.capabilities.in_loop:
        return printable(name)
    return f"{printable(name)} · {workers} {'worker' if workers == 1 else 'workers'}"


def pool(use: PoolUse) -> str:
    """How much of a resource is in use: `gpu 2/2`, `memory 8 GB/60 GB`."""
    return printable(pool_text(use.name, use.used, use.total))


def waits(told: Waits) -> str:
    """What calls wait for: `waiting 5 (3 gpu, 2 dependencies)`."""
    return printable(waits_text(told.calls, told.pools, told.dependencies))


def place(where: str, devices: Sequence[str]) -> str:
    """Where a call runs, and with what: `process 4711 · gpu 0`."""
    return printable(" · ".join((where, *devices) if where else devices))


def workers(told: ClusterWorkers | None) -> str:
    """How many workers of a cluster are up, and what the others wait for; empty if there is nothing to tell."""
    return "" if told is None or told.are_complete else printable(str(told))


def duration(seconds: float) -> str:
    """`0:07`, `12:30` or `3:05:00`."""
    minutes, second = divmod(int(max(0.0, seconds)), SECONDS_PER_MINUTE)
    hours, minute = divmod(minutes, SECONDS_PER_MINUTE)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def rate(per_second: float) -> str:
    """A rate per second, minute or hour: whichever gives a readable number."""
    if per_second == 0:
        return "0/s"
    if per_second >= 1:
        return f"{per_second:,.1f}/s"
    if per_second * SECONDS_PER_MINUTE >= 1:
        return f"{per_second * SECONDS_PER_MINUTE:.1f}/min"
    return f"{per_second * SECONDS_PER_HOUR:.1f}/h"
