"""MPI: ranks that mpi4py started, or starts."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from mpi4py import MPI
from mpi4py.futures import MPIPoolExecutor

from amltk._checks import check_optional_count
from amltk._process.program import import_path
from amltk.scheduling.executors._transfer.contents import Sent
from amltk.scheduling.executors.remote.pooled import PooledExecutor


def make(max_workers: int | None = None, **options: Any) -> MPIExecutor:
    """Create an executor over `mpi4py.futures.MPIPoolExecutor`.

    Args:
        max_workers: How many ranks compute; None for the value from the environment, see mpi4py.
        **options: Other options of `MPIPoolExecutor`. By default workers import from the same path as this program, and
            do not run its main module.

    Raises:
        ValueError: `max_workers` is below 1.
        FileNotFoundError: There is no `mpiexec` to start workers.
    """
    max_workers = check_optional_count("max_workers", max_workers)
    _find_mpiexec()
    return MPIExecutor(MPIPoolExecutor(max_workers, **{"main": False, "path": import_path(), **options}))


def _find_mpiexec() -> None:
    """Check that MPI can start ranks: if it cannot, it ends the program without any message from Python.

    The wheels of MPICH and Open MPI put `mpiexec` next to the interpreter, which need not be on PATH.
    """
    if MPI.COMM_WORLD.size > 1 or shutil.which("mpiexec") is not None:
        return
    beside = str(Path(sys.executable).parent)
    if shutil.which("mpiexec", path=beside) is None:
        raise FileNotFoundError(
            "no mpiexec on PATH, which MPI needs to start workers: install an MPI, for example with 'pip install"
            " mpich', or start the program with 'mpiexec -n 5 python -m mpi4py.futures program.py'"
        )
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), beside])


class MPIExecutor(PooledExecutor):
    """Computes in MPI ranks. Running calls cannot be cancelled or killed, and a rank that dies ends the program."""

    @property
    def n_workers(self) -> int:
        """How many ranks compute; 0 after shutdown."""
        return 0 if self._pool is None else int(self._pool.num_workers)

    def put_shared(self, contents: memoryview) -> Sent:
        """Let the contents of a shared object travel with each call, since ranks may be on other machines."""
        return Sent(bytes(contents))

    def _kill(self) -> bool:
        self._pool.shutdown(wait=False, cancel_futures=True)
        return False
