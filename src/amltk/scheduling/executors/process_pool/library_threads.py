"""How many threads numerical libraries use in each worker: in all of them together, as many as there are CPUs."""

from __future__ import annotations

import contextlib
import os
import warnings
from typing import TYPE_CHECKING

from amltk._cpus import usable_cpus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OPENMP = "OMP_NUM_THREADS"
"""Read by OpenMP, and by OpenBLAS, MKL, BLIS, numexpr and PyTorch where a variable of their own is not set."""

ACCELERATE = "VECLIB_MAXIMUM_THREADS"
"""Read by the BLAS of macOS, which knows no other."""

OWN = {"openblas": "OPENBLAS_NUM_THREADS", "mkl": "MKL_NUM_THREADS", "blis": "BLIS_NUM_THREADS"}
"""Of libraries, by threadpoolctl's names: the variable of their own."""


def thread_environment(max_workers: int) -> dict[str, str]:
    """The variables that limit the threads of libraries in each of so many workers.

    The number is that of `usable_cpus` divided by the workers, and at least 1. Libraries read it when they are loaded.
    A variable that is set already is left out: `OMP_NUM_THREADS` says it for all, and that of one library for this one.
    """
    number = str(max(1, usable_cpus() // max_workers))
    return {name: number for name in (OPENMP, ACCELERATE) if name not in os.environ}


def limit_forked(variables: Mapping[str, str]) -> None:
    """Do the same in a worker that was forked: for what it loads later, and by threadpoolctl for what is loaded.

    What uses fewer threads already or has a variable of its own is left alone; so is everything without threadpoolctl.
    """
    os.environ.update(variables)
    if OPENMP in variables:
        _set_loaded(int(variables[OPENMP]), may_be_more=False)


@contextlib.contextmanager
def following() -> Iterator[None]:
    """Have libraries that are loaded already follow what an initializer says by `OMP_NUM_THREADS`.

    They have read the variable before, in the warm process that this worker was forked from. Nothing is done without
    threadpoolctl, and where the variable stays as it is.
    """
    before = os.environ.get(OPENMP)
    yield
    after = os.environ.get(OPENMP)
    if after != before and after is not None and after.isdecimal() and int(after):
        _set_loaded(int(after), may_be_more=True)


def _set_loaded(number: int, *, may_be_more: bool) -> None:
    """Set the threads of the libraries that are loaded and have no variable of their own."""
    with contextlib.suppress(ImportError), warnings.catch_warnings():
        import threadpoolctl

        warnings.simplefilter("ignore", RuntimeWarning)  # of libraries that do not go together
        for library in threadpoolctl.ThreadpoolController().lib_controllers:
            is_other = library.num_threads != number if may_be_more else (library.num_threads or 0) > number
            if is_other and not os.environ.get(OWN.get(library.internal_api, "")):
                library.set_num_threads(number)


def prepare_to_fork() -> None:
    """Load what `limit_forked` needs, where it is installed: imports are not safe in a process that was just forked."""
    with contextlib.suppress(ImportError):
        import threadpoolctl  # noqa: F401
