"""Local processes by loky, as joblib and scikit-learn use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loky import ProcessPoolExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor


def make(
    max_workers: int | None = None,
    context: Any = None,
    timeout: float | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    env: Mapping[str, str] | None = None,
) -> Executor:
    """Make a pool of its own.

    Not loky's reusable executor: that is one for the whole program, so that the end of one scheduler's run would shut
    down another's, joblib's included.
    """
    pool: Executor = ProcessPoolExecutor(
        max_workers, context=context, timeout=timeout, initializer=initializer, initargs=initargs, env=env
    )
    return pool
