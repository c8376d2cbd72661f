"""The rows of the table, each a function that measures and returns lines."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.rows import (
    admission,
    display,
    events,
    first_result,
    idle,
    importing,
    journal,
    latency,
    memo,
    memory,
    over_clusters,
    payload,
    pending,
    pipelines,
    prompt_end,
    simulation,
    soak,
    stdlib_pool,
    threads,
    throughput,
    utilisation,
    warm,
    workers,
)
from benchmarks.rows.setting import Setting
from benchmarks.table import Line

__all__ = ["ROWS", "Setting"]

ROWS: dict[str, Callable[[Setting], list[Line]]] = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "first-result": first_result.measure,
    "warm": warm.measure,
    "payload": payload.measure,
    "pending": pending.measure,
    "pipelines": pipelines.measure,
    "memory": memory.measure,
    "import": importing.measure,
    "prompt-end": prompt_end.measure,
    "uneven": utilisation.uneven,
    "blocking": utilisation.blocking,
    "events": events.measure,
    "stdlib-pool": stdlib_pool.measure,
    "threads": threads.measure,
    "over-clusters": over_clusters.measure,
    "display": display.measure,
    "memo": memo.measure,
    "journal": journal.measure,
    "admission": admission.measure,
    "idle": idle.measure,
    "workers": workers.measure,
    "soak": soak.measure,
    "simulation": simulation.measure,
}
"""To add a row: one file here, one line above, and a new workload unless an existing one fits."""
