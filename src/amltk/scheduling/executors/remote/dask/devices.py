"""Which GPUs of a Dask worker are free. Dask itself only counts them."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from distributed import get_worker

from amltk.exceptions import ResourceUnavailableError
from amltk.scheduling._admission.amounts import UNIT, amount_text, units_of
from amltk.scheduling._admission.devices import find_gpus
from amltk.scheduling._admission.pools import GPU, IndexedPool
from amltk.scheduling.executors.process_pool.binding import Binding

if TYPE_CHECKING:
    from collections.abc import Iterator


class WorkerDevices:
    """The GPUs of one worker: of those that its process sees, as many as it declares.

    Args:
        declared: How many units it declares.
        visible: Those that its process sees; if there are none, numbers stand for them.
    """

    def __init__(self, declared: int, visible: tuple[str, ...]) -> None:
        count = -(-declared // UNIT)
        self._visible = visible
        self._pool = IndexedPool(GPU, visible[:count] or tuple(map(str, range(count))))
        self._freed = threading.Condition()

    @contextmanager
    def lend(self, units: int) -> Iterator[tuple[tuple[str, ...], Binding | None]]:
        """Lend some; waits if the free shares are spread over too many of them.

        Raises:
            ResourceUnavailableError: The worker has declared more than it sees.
        """
        pool = self._pool
        if why := pool.why_never(units):
            raise ResourceUnavailableError(
                f"a Dask worker has to grant {amount_text(units)} of {GPU}, and cannot: {why}"
            )
        with self._freed:
            self._freed.wait_for(lambda: units <= pool.level)
            ids = pool.take(units) if units else ()
        try:
            yield ids, None if ids == self._visible else Binding.to(ids, units)
        finally:
            with self._freed:
                pool.give_back(units, ids)
                self._freed.notify_all()


_of_workers: dict[str, WorkerDevices] = {}  # a process may have several workers
_lock = threading.Lock()


@contextmanager
def lend(units: int) -> Iterator[tuple[tuple[str, ...], Binding | None]]:
    """Lend GPUs of the worker that computes here; see `PlacingExecutor.lend`."""
    worker = get_worker()
    with _lock:
        if worker.address not in _of_workers:
            _of_workers[worker.address] = WorkerDevices(_declared(worker.state.total_resources), find_gpus())
        devices = _of_workers[worker.address]
    with devices.lend(units) as lent:
        yield lent


def _declared(resources: dict[str, float]) -> int:
    return sum(units_of(name, amount) for name, amount in resources.items() if name.lower() == GPU)
