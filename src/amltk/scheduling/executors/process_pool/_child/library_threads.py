"""The number of threads of numerical libraries in each worker: over all workers, as many as there are CPUs."""

from __future__ import annotations

import contextlib
import os
import warnings
from typing import TYPE_CHECKING

from amltk._process.cpus import usable_cpus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OPENMP = "OMP_NUM_THREADS"
"""Read by OpenMP; and by OpenBLAS, MKL, BLIS, numexpr and PyTorch if their own variable is not set."""

ACCELERATE = "VECLIB_MAXIMUM_THREADS"
"""Read by the BLAS of macOS, which reads no other."""

OWN = {"openblas": "OPENBLAS_NUM_THREADS", "mkl": "MKL_NUM_THREADS", "blis": "BLIS_NUM_THREADS"}
"""The own variable of each library, by threadpoolctl's name for it."""


def thread_environment(max_workers: int) -> dict[str, str]:
    """The variables that limit the threads of libraries in each of `max_workers` workers.

    The number is `usable_cpus` divided by the number of workers, and at least 1. Libraries read it when they are
    loaded. A variable that is already set is left out: `OMP_NUM_THREADS` counts for all, and a library's own variable
    for that library.
    """
    number = str(max(1, usable_cpus() // max_workers))
    return {name: number for name in (OPENMP, ACCELERATE) if name not in os.environ}


def limit_forked(variables: Mapping[str, str]) -> None:
    """Do the same in a forked worker: for libraries it loads later, and with threadpoolctl for loaded ones.

    A library that already uses fewer threads, or has a variable of its own, is left alone; so is everything without
    threadpoolctl.
    """
    os.environ.update(variables)
    if OPENMP in variables:
        _set_loaded(int(variables[OPENMP]), may_be_more=False)


@contextlib.contextmanager
def following() -> Iterator[None]:
    """Apply the `OMP_NUM_THREADS` that an initializer sets to libraries that are already loaded.

    They read the variable earlier, in the warm process that this worker was forked from. Nothing is done without
    threadpoolctl, or if the variable does not change.
    """
    before = os.environ.get(OPENMP)
    yield
    after = os.environ.get(OPENMP)
    if after != before and after is not None and after.isdecimal() and int(after):
        _set_loaded(int(after), may_be_more=True)


def _set_loaded(number: int, *, may_be_more: bool) -> None:
    """Set the threads of loaded libraries that have no variable of their own."""
    with contextlib.suppress(ImportError), warnings.catch_warnings():
        import threadpoolctl

        warnings.simplefilter("ignore", RuntimeWarning)  # warns about incompatible libraries
        for library in threadpoolctl.ThreadpoolController().lib_controllers:
            is_other = library.num_threads != number if may_be_more else (library.num_threads or 0) > number
            if is_other and not os.environ.get(OWN.get(library.internal_api, "")):
                library.set_num_threads(number)


def prepare_to_fork() -> None:
    """Import what `limit_forked` needs, if installed: imports are not safe in a process that was just forked."""
    with contextlib.suppress(ImportError):
        import threadpoolctl  # noqa: F401


EVERY = (OPENMP, ACCELERATE, *OWN.values(), "NUMEXPR_NUM_THREADS")
"""All variables, for a call that is granted a number of CPUs."""


@contextlib.contextmanager
def limited(number: int) -> Iterator[None]:
    """Let libraries use so many threads meanwhile.

    By variables for those that are loaded later and for processes that are started; with threadpoolctl, if it is
    installed, for those that are loaded.
    """
    before = {name: os.environ.get(name) for name in EVERY}
    os.environ.update(dict.fromkeys(EVERY, str(number)))
    try:
        with _loaded_limited(number):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _loaded_limited(number: int) -> contextlib.AbstractContextManager[object]:
    try:
        import threadpoolctl
    except ImportError:
        return contextlib.nullcontext()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # warns about incompatible libraries
        limits: contextlib.AbstractContextManager[object] = threadpoolctl.threadpool_limits(number)
        return limits
