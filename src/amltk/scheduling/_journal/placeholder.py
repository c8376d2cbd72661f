"""What stands in for an executor's future while recorded inputs are told."""

from __future__ import annotations

from typing import Any

from amltk._compat import CANCELLED_AND_NOTIFIED, FINISHED
from amltk.scheduling.executors.light_future import LightFuture


class PlaceholderFuture(LightFuture[Any]):
    """A call that the executor was not given: an earlier session has its outcome, or it is given later."""

    def end(self, result: Any, error: BaseException | None, *, cancelled: bool = False) -> None:
        """Have an outcome, without telling anyone."""
        self._result, self._exception = result, error
        self._state = CANCELLED_AND_NOTIFIED if cancelled else FINISHED
