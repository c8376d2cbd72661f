"""The states of Slurm's jobs, and what the final ones mean for what was computed in them."""

from __future__ import annotations

from amltk.exceptions import (
    WorkerLostError,
    WorkerNodeFailedError,
    WorkerOutOfMemoryError,
    WorkerOutOfTimeError,
    WorkerPreemptedError,
)

ACTIVE = frozenset(
    {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "STAGE_OUT", "SIGNALING", "STOPPED"}
    | {"REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESIZING", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
)
"""The states of jobs that have not ended."""

KINDS: dict[str, type[WorkerLostError]] = {
    "PREEMPTED": WorkerPreemptedError,
    "TIMEOUT": WorkerOutOfTimeError,
    "DEADLINE": WorkerOutOfTimeError,
    "OUT_OF_MEMORY": WorkerOutOfMemoryError,
    "NODE_FAIL": WorkerNodeFailedError,
    "BOOT_FAIL": WorkerNodeFailedError,
}
"""The errors that say so; any other state is only a loss."""
