"""What the final states of Slurm's jobs mean for what was computed in them."""

from __future__ import annotations

from amltk.exceptions import (
    WorkerLostError,
    WorkerNodeFailedError,
    WorkerOutOfMemoryError,
    WorkerOutOfTimeError,
    WorkerPreemptedError,
)

KINDS: dict[str, type[WorkerLostError]] = {
    "PREEMPTED": WorkerPreemptedError,
    "TIMEOUT": WorkerOutOfTimeError,
    "DEADLINE": WorkerOutOfTimeError,
    "OUT_OF_MEMORY": WorkerOutOfMemoryError,
    "NODE_FAIL": WorkerNodeFailedError,
    "BOOT_FAIL": WorkerNodeFailedError,
}
"""The errors that say so; any other state is only a loss."""
