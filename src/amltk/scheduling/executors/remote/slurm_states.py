"""The states of Slurm's jobs, and what the final ones mean for what was computed in them."""

from __future__ import annotations

from amltk.exceptions import (
    WorkerLostError,
    WorkerNodeFailedError,
    WorkerOutOfMemoryError,
    WorkerOutOfTimeError,
    WorkerPreemptedError,
)

FINAL = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED"}
    | {"TIMEOUT"}
)
"""The states of jobs that have ended. A job in any other state goes on: newer versions of Slurm have more of those."""

KINDS: dict[str, type[WorkerLostError]] = {
    "PREEMPTED": WorkerPreemptedError,
    "TIMEOUT": WorkerOutOfTimeError,
    "DEADLINE": WorkerOutOfTimeError,
    "OUT_OF_MEMORY": WorkerOutOfMemoryError,
    "NODE_FAIL": WorkerNodeFailedError,
    "BOOT_FAIL": WorkerNodeFailedError,
}
"""The errors that say so; any other state is only a loss."""
