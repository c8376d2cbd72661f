"""What stands in for an executor's future while recorded inputs are replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._compat import PENDING
from amltk.scheduling.executors.light_future import LightFuture

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

_shared: Any = LightFuture[Any]()


class PlaceholderFuture(LightFuture[Any]):
    """A call that was not given to the executor: an earlier session has its outcome, or the executor gets it later.

    There is one for each recorded call, so it must be cheap: no thread waits for it, and all share a lock. Only the run
    uses it, on its loop's thread.
    """

    _condition = _shared._condition
    _state = PENDING
    _result = None
    _exception = None
    _waiters: list[Any] = []  # noqa: RUF012 - always empty
    _done_callbacks: Any = ()

    def __init__(self) -> None:
        """Use the attributes of the class, until it has an outcome."""

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """As in `concurrent.futures.Future`."""
        if self._state == PENDING:
            self._done_callbacks = (*self._done_callbacks, fn)
        else:
            fn(self)
