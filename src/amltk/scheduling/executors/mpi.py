"""MPI: ranks that mpi4py has started, or starts."""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpi4py import MPI
from mpi4py.futures import MPIPoolExecutor

from amltk.scheduling.executors.remote import RemoteExecutor, RemoteFuture, compute

if TYPE_CHECKING:
    from concurrent.futures import Future


def make(max_workers: int | None = None, **options: Any) -> MPIExecutor:
    """Make an executor over `mpi4py.futures.MPIPoolExecutor`.

    Args:
        max_workers: How many ranks compute; None for what the environment says, see mpi4py.
        **options: Others of `MPIPoolExecutor`. By default workers import from where this program does, and do not
            run its main module.

    Raises:
        ValueError: `max_workers` is below 1.
        FileNotFoundError: There is no `mpiexec` that could start workers.
    """
    _find_mpiexec()
    return MPIExecutor(MPIPoolExecutor(max_workers, **{"main": False, "path": list(sys.path), **options}))


def _find_mpiexec() -> None:
    """See that MPI can start ranks: where it cannot, it ends the program without a word of Python.

    The wheels of MPICH and Open MPI put `mpiexec` beside the interpreter, which need not be on PATH.
    """
    if MPI.COMM_WORLD.size > 1 or shutil.which("mpiexec") is not None:
        return
    beside = str(Path(sys.executable).parent)
    if shutil.which("mpiexec", path=beside) is None:
        raise FileNotFoundError(
            "no mpiexec on PATH, which MPI needs to start workers: install an MPI, for instance with 'pip install"
            " mpich', or start the program with 'mpiexec -n 5 python -m mpi4py.futures program.py'"
        )
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), beside])


class MPIExecutor(RemoteExecutor):
    """Computes in MPI ranks. What runs can neither be cancelled nor killed, and a rank that dies ends the program.

    Args:
        pool: It is shut down at the end.
    """

    def __init__(self, pool: MPIPoolExecutor) -> None:
        super().__init__()
        self._pool = pool

    def _send(self, call: RemoteFuture, parcel: bytes) -> None:
        call.handle = self._pool.submit(compute, parcel)
        call.handle.add_done_callback(partial(self._arrived, call))

    def withdraw(self, call: RemoteFuture) -> bool:
        """Take it back unless a rank has it."""
        return call.handle is None or bool(call.handle.cancel())

    def _kill(self) -> bool:
        return False

    def _close(self, *, wait: bool) -> None:
        self._pool.shutdown(wait=wait, cancel_futures=not wait)

    def _arrived(self, call: RemoteFuture, outcome: Future[bytes]) -> None:
        """Take what has come of a call, on the thread of the pool."""
        if outcome.cancelled():
            call.cancel()
        elif (error := outcome.exception()) is not None:
            self.end(call, error=error)
        else:
            self.end(call, outcome.result())
