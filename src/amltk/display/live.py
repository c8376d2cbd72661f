"""Showing a run while it goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from amltk.display import wording
from amltk.display.panel import Frame
from amltk.display.progress import Observer
from amltk.display.screens import Screen, screen_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import Console, RenderableType

    from amltk.scheduling.scheduler import Scheduler


class LiveDisplay:
    """Shows one run of a scheduler: state, counts, rate, tasks and the user's own renderables.

    It draws only when it is told to, on the thread that tells it, and each time at the same cost, however much is
    pending. In a terminal it is a region that is redrawn in place, and never higher than the terminal; in a notebook an
    output that is replaced. Where there is neither, it prints a line every ten seconds and one at the end, to the
    standard error stream.

    What callbacks print goes above it. So does what workers print, but it goes to the terminal itself: of several lines
    at once those after the first may end with pieces of the picture that was there.

    Whatever raises while it draws, the user's renderables included, closes it first: the terminal is as it was.

    Args:
        scheduler: Whose run is shown.
        renderables: Anything that rich can draw; shown below, and drawn anew each time. Left out where only lines are
            printed.
        timeout: The timeout of the run in seconds, to show the time left; None if it has none.
        console: Where it is shown; None for rich's own console, or the standard error stream if that is no terminal.
        clock: Tells the time in seconds.
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
        """Begin to show the run."""
        self._screen = screen_for(self._console)  # only now: another run may have opened one there
        self._observer.open()
        self._or_close(self._screen.open)
        self.refresh()

    def refresh(self) -> None:
        """Show how it goes now, where that is due."""
        if self._screen.is_due(self._observer.elapsed):
            self._or_close(lambda: self._screen.draw(self._frame()))

    def stop(self) -> None:
        """Show how it ended, and give the terminal back."""
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
