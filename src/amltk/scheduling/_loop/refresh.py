"""Refreshes the display of a run."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_log = logging.getLogger(__name__)

MIN_REFRESH_SECONDS = 0.25
"""The minimum number of seconds between two redraws, whatever the rate of events."""

MAX_DRAWING_SHARE = 0.02
"""The maximum share of time spent drawing: a display that is slow to draw is drawn less often."""

N_TIMED_REDRAWS = 3
"""The fastest of this many redraws counts as the time for one: others were delayed by the machine's other work."""


class View(Protocol):
    """A display of a run."""

    def start(self) -> None:
        """Start drawing."""

    def refresh(self) -> None:
        """Draw what has changed."""

    def stop(self) -> None:
        """Draw the final state, and restore the terminal."""


class DisplayRefresher:
    """Draws a view a few times a second. A view that raises is dropped: a display must not end the run.

    Owns the view and the timer of the next drawing. On the loop's thread.

    Args:
        loop: The loop of the run.
        view: The view; if None, nothing is done and nothing wakes the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, view: View | None) -> None:
        self._loop = loop
        self._view = view
        self._timer: asyncio.TimerHandle | None = None
        self._took: deque[float] = deque(maxlen=N_TIMED_REDRAWS)

    def start(self) -> None:
        """Start drawing."""
        if self._view is not None:
            self._draw(self._view.start)  # not timed: it includes imports
            self._wait(MIN_REFRESH_SECONDS)

    def stop(self) -> None:
        """Draw for the last time."""
        if self._timer is not None:
            self._timer.cancel()
        if self._view is not None:
            self._draw(self._view.stop)

    def _wait(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._refresh)

    def _refresh(self) -> None:
        if self._view is not None:
            began = self._loop.time()
            self._draw(self._view.refresh)
            self._took.append(self._loop.time() - began)
            self._wait(max(MIN_REFRESH_SECONDS, min(self._took) / MAX_DRAWING_SHARE))

    def _draw(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:  # noqa: BLE001 - logged, and the view is dropped
            _log.exception("the display failed and is switched off")
            self._view = None
