"""Where a run can be shown: a class each for a terminal, for a notebook, and for output that only takes lines."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import rich
from rich.console import Console
from rich.text import Text

from amltk.display import export
from amltk.display._screens.region import Region

if TYPE_CHECKING:
    from amltk.display.panel import Frame

FIRST_LINE = 1.0
"""Seconds until the first line is printed if there is no terminal."""

LINE_EVERY = 10.0
"""Seconds between two lines."""

NOTEBOOK_WIDTH = 100
"""Columns of a picture in a notebook; a narrower page scrolls."""

NOTEBOOK_HEIGHT = 60
"""Lines of a picture in a notebook, at most."""


class Screen(Protocol):
    """A place where a run is shown."""

    def open(self) -> None:
        """Prepare it."""

    def is_due(self, elapsed: float) -> bool:
        """Whether to draw now, `elapsed` seconds after the start of the run."""
        ...

    def draw(self, frame: Frame) -> None:
        """Show the progress of the run."""

    def close(self, last: Frame | None) -> None:
        """Show how the run ended, unless `last` is None, and restore everything."""


def screen_for(console: Console | None) -> Screen:
    """Choose how to show a run on this console.

    Without a console it is rich's own, if that is a terminal; otherwise standard error, so that a display never mixes
    with a program's output.
    """
    if console is not None:
        return _screen_on(console, moves=console.is_interactive)
    own = rich.get_console()
    # With FORCE_COLOR rich treats a pipe as a terminal; cursor movements do not belong there.
    if own.is_jupyter or (own.is_interactive and _is_terminal(own)):
        return _screen_on(own, moves=True)
    errors = Console(stderr=True)
    return _screen_on(errors, moves=errors.is_interactive and _is_terminal(errors))


def _screen_on(console: Console, *, moves: bool) -> Screen:
    if console.is_jupyter:
        return NotebookScreen()
    plain = console.options.ascii_only or console.legacy_windows
    if moves and not plain and not TerminalScreen.is_open_on(console):
        return TerminalScreen(console)
    return LineScreen(console)


def _is_terminal(console: Console) -> bool:
    try:
        return console.file.isatty()
    except ValueError:  # the file is closed
        return False


class TerminalScreen:
    """A region of a terminal that is redrawn in place, while other output appears above it.

    Only one can be open on a console at a time.
    """

    _all_open: ClassVar[list[TerminalScreen]] = []

    def __init__(self, console: Console) -> None:
        self._console = console
        self._region = Region(console)

    @classmethod
    def is_open_on(cls, console: Console) -> bool:
        """Whether a display is open on this console."""
        return any(screen._console is console for screen in cls._all_open)

    @classmethod
    def forget_all(cls) -> None:
        """In a forked worker: its output goes directly to the terminal; only the parent draws the region."""
        while cls._all_open:
            cls._all_open.pop()._region.give_back_streams()

    def open(self) -> None:
        """Hide the cursor, and redirect the standard streams above the region."""
        self._region.open()
        self._all_open.append(self)

    def is_due(self, elapsed: float) -> bool:  # noqa: ARG002 - the interface's
        """Always."""
        return True

    def draw(self, frame: Frame) -> None:
        """Redraw the region."""
        size = self._console.size
        self._region.draw(frame.picture(size.width, size.height - 2))  # so that the last output is visible above it

    def close(self, last: Frame | None) -> None:
        """Redraw the region for the last time, and restore cursor and streams even if that raises."""
        if self not in self._all_open:
            return
        self._all_open.remove(self)
        try:
            if last is None:
                self._region.draw(Text())
            else:
                self.draw(last)
        finally:
            self._region.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TerminalScreen.forget_all)


class NotebookScreen:
    """An output of the cell, replaced in place; needs only IPython."""

    def __init__(self) -> None:
        self._handle: Any = None

    def open(self) -> None:
        """Do nothing: the first frame creates the output."""

    def is_due(self, elapsed: float) -> bool:  # noqa: ARG002 - the interface's
        """Always."""
        return True

    def draw(self, frame: Frame) -> None:
        """Replace the output."""
        ipython: Any = importlib.import_module("IPython.display")  # only a notebook is sure to have it
        picture = frame.picture(NOTEBOOK_WIDTH, NOTEBOOK_HEIGHT)
        forms = {
            "text/html": export.to_html(picture, width=NOTEBOOK_WIDTH),
            "text/plain": "\n".join(frame.lines(after=-1)),  # for editors and converters that do not show HTML
        }
        if self._handle is None:
            self._handle = ipython.display(forms, raw=True, display_id=True)
        else:
            self._handle.update(forms, raw=True)

    def close(self, last: Frame | None) -> None:
        """Replace the output for the last time."""
        if last is not None:
            self.draw(last)


class LineScreen:
    """A pipe, a file or the log of a CI job: an occasional line, without control codes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = FIRST_LINE
        self._told = 0.0

    def open(self) -> None:
        """Do nothing: the first line comes when there is something to report."""

    def is_due(self, elapsed: float) -> bool:
        """Soon after the start, then every few seconds."""
        return elapsed >= self._next

    def draw(self, frame: Frame) -> None:
        """Print a line for the run, and one for each failure since the last time."""
        self._next = frame.elapsed + LINE_EVERY
        self._print(frame)

    def close(self, last: Frame | None) -> None:
        """Print the last line."""
        if last is not None:
            self._print(last)

    def _print(self, frame: Frame) -> None:
        lines = frame.lines(after=self._told)
        self._told = frame.elapsed
        self._console.out("\n".join(lines), highlight=False)  # above the region of another run, if there is one
