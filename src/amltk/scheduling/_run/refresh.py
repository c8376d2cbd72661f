"""Showing a run while it goes on."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_log = logging.getLogger(__name__)

MIN_REFRESH_SECONDS = 0.25
"""Seconds between two redraws at least, whatever the rate of events."""

MAX_DRAWING_SHARE = 0.02
"""What drawing may take of the time at most: what takes long to draw is drawn less often."""

N_TIMED_REDRAWS = 3
"""The quickest of so many redraws says how long one takes: others were held up by what else the machine does."""


class View(Protocol):
    """Something that shows a run."""

    def start(self) -> None:
        """Begin to draw."""

    def refresh(self) -> None:
        """Draw what is new."""

    def stop(self) -> None:
        """Draw the end, and leave the terminal as it was."""


class DisplayRefresher:
    """Has a view drawn a few times a second. A view that raises is dropped: what shows a run must not end it.

    Args:
        loop: The loop of the run.
        view: What draws, or None: then nothing is done, and nothing wakes the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, view: View | None) -> None:
        self._loop = loop
        self._view = view
        self._timer: asyncio.TimerHandle | None = None
        self._took: deque[float] = deque(maxlen=N_TIMED_REDRAWS)

    def start(self) -> None:
        """Begin to draw."""
        if self._view is not None:
            self._draw(self._view.start)  # which loads what is needed: no measure for the next time
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
