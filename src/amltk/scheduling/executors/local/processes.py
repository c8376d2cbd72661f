"""Local processes."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from multiprocessing.context import BaseContext

ON_WINDOWS: bool = sys.platform == "win32"


def make(
    max_workers: int | None = None,
    mp_context: BaseContext | str | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    max_tasks_per_child: int | None = None,
    **options: Any,
) -> Executor:
    """Create a `ProcessPool`; on Windows, which it does not support, the standard library's pool. Same arguments."""
    # Imported here: multiprocessing takes a third of the package's import time.
    if not ON_WINDOWS:
        from amltk.scheduling.executors.process_pool.pool import ProcessPool

        return ProcessPool(
            max_workers, mp_context, initializer, initargs, max_tasks_per_child=max_tasks_per_child, **options
        )
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    if isinstance(mp_context, str):
        mp_context = get_context(mp_context)
    return ProcessPoolExecutor(
        max_workers,
        mp_context=mp_context,
        initializer=_start_worker,
        initargs=(initializer, initargs),
        max_tasks_per_child=max_tasks_per_child,
    )


def _start_worker(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """Leave signals to the parent: Ctrl-C in a terminal reaches all processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if initializer is not None:
        initializer(*initargs)
