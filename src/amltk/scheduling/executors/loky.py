"""Local processes by loky, as joblib and scikit-learn use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loky import ProcessPoolExecutor

if TYPE_CHECKING:
    from concurrent.futures import Executor


def make(max_workers: int | None = None, **options: Any) -> Executor:
    """Make a pool of its own; arguments as in `loky.ProcessPoolExecutor`.

    Not loky's reusable executor: that is one for the whole program, so that the end of one scheduler's run would shut
    down another's, joblib's included.
    """
    pool: Executor = ProcessPoolExecutor(max_workers, **options)
    return pool
