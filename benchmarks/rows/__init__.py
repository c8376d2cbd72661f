"""The rows of the table: each is a function that measures and returns lines."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.rows import (
    arrays,
    display,
    events,
    idle,
    importing,
    memory,
    pending,
    processes,
    prompt_end,
    simulation,
    soak,
    stdlib_pool,
)
from benchmarks.rows.setting import Setting
from benchmarks.table import Line

__all__ = ["ROWS", "Setting"]

ROWS: dict[str, Callable[[Setting], list[Line]]] = {
    "events": events.measure,
    "simulation": simulation.measure,
    "memory": memory.measure,
    "pending": pending.measure,
    "stdlib-pool": stdlib_pool.measure,
    "processes": processes.measure,
    "arrays": arrays.measure,
    "display": display.measure,
    "soak": soak.measure,
    "import": importing.measure,
    "idle": idle.measure,
    "prompt-end": prompt_end.measure,
}
"""A new row is one file here, one line above, and a workload where no existing one serves."""
