"""The live display of a run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from amltk.display import wording
from amltk.display._screens.screens import Screen, screen_for
from amltk.display.panel import Frame
from amltk.display.progress import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import Console, RenderableType

    from amltk.scheduling.scheduler import Scheduler


class LiveDisplay:
    """Shows one run of a scheduler: state, counts, rate, tasks and the user's own renderables.

    It draws only when called, on the calling thread, and a drawing costs the same however much is pending. In a
    terminal it redraws a region in place, never higher than the terminal; in a notebook it replaces an output. Anywhere
    else it prints a line to standard error every ten seconds, and one at the end.

    Output of callbacks appears above it. So does output of workers, but that goes straight to the terminal: if it has
    several lines at once, those after the first may end with remains of the previous picture.

    If drawing raises, also in a renderable of the user's, the display is closed and the terminal restored first.

    Args:
        scheduler: The scheduler whose run is shown.
        renderables: Anything that rich can draw; shown below the panel and redrawn each time. Not shown where only
            lines are printed.
        timeout: The timeout of the run in seconds, used to show the time left; None if it has none.
        console: The console to show it on; None for rich's own console, or standard error if that is not a terminal.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        renderables: Iterable[RenderableType] = (),
        *,
        timeout: float | None = None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = scheduler
        self._renderables = list(renderables)
        self._observer = Observer(scheduler, timeout, clock)
        self._console = console
        self._screen: Screen

    def start(self) -> None:
        """Start showing the run."""
        self._screen = screen_for(self._console)  # not earlier: another run may have opened a display there since
        self._observer.open()
        self._or_close(self._screen.open)
        self.refresh()

    def refresh(self) -> None:
        """Redraw the display if it is due."""
        if self._screen.is_due(self._observer.elapsed):
            self._or_close(lambda: self._screen.draw(self._frame()))

    def stop(self) -> None:
        """Show how the run ended, and restore the terminal."""
        self._or_close(lambda: self._screen.close(self._frame()))
        self._observer.close()

    def _frame(self) -> Frame:
        return Frame(self._observer.observe(), wording.executor_in_short(self._scheduler), self._renderables)

    def _or_close(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException:
            self._observer.close()
            self._screen.close(None)
            raise
