"""Where a run can be shown: one small class for a terminal, for a notebook, and for what only takes lines."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import rich
from rich.live import Live
from rich.text import Text

from amltk.display import export

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import Console

    from amltk.display.panel import Frame

LINE_EVERY = 20
"""Frames for each line on a screen that only takes lines: five seconds, at the rate of a run."""

NOTEBOOK_WIDTH = 100
"""Columns of a picture in a notebook, which scrolls where its page is narrower."""


class Screen(Protocol):
    """Something that a run is shown on."""

    def open(self) -> None:
        """Make it ready."""

    def draw(self, frame: Frame) -> None:
        """Show how the run goes."""

    def close(self, last: Frame | None) -> None:
        """Show how the run went, unless `last` is None, and leave everything as it was before."""


def screen_for(console: Console | None) -> Screen:
    """What is able to show a run on this console, or on rich's own if it is None."""
    chosen = console or rich.get_console()
    if chosen.is_jupyter:
        return NotebookScreen()
    # rich takes a pipe for a terminal where FORCE_COLOR asks for colours; cursor movements do not belong there.
    moves = chosen.is_interactive and (console is not None or _is_terminal(chosen))
    if moves and not chosen.options.ascii_only and not TerminalScreen.is_open_on(chosen):
        return TerminalScreen(chosen)
    return LineScreen(chosen)


def _is_terminal(console: Console) -> bool:
    try:
        return console.file.isatty()
    except ValueError:  # it is closed
        return False


class TerminalScreen:
    """A region of a terminal that is redrawn in place, while what is printed goes above it.

    Only one can be open on a console at a time.
    """

    _all_open: ClassVar[list[TerminalScreen]] = []

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)  # the run says when; a thread of its own would race it
        self._streams: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)

    @classmethod
    def is_open_on(cls, console: Console) -> bool:
        """Whether one is open on this console."""
        return any(screen._console is console for screen in cls._all_open)

    @classmethod
    def forget_all(cls) -> None:
        """In a forked worker: what it prints goes to the terminal as it is; the region is the parent's to draw."""
        while cls._all_open:
            sys.stdout, sys.stderr = cls._all_open.pop()._streams

    @property
    def _width(self) -> int:
        # The cursor stays at the end of the last line: there must be room for the ^C that a terminal echoes there.
        return self._console.width - len("^C")

    def open(self) -> None:
        """Hide the cursor, and redirect the standard streams to above the region."""
        self._streams = (sys.stdout, sys.stderr)
        self._live.start()
        self._all_open.append(self)

    def draw(self, frame: Frame) -> None:
        """Redraw the region."""
        self._live.update(frame.picture(self._width), refresh=True)

    def close(self, last: Frame | None) -> None:
        """Redraw it for the last time, and give back cursor and streams even if that raises."""
        if self not in self._all_open:
            return
        self._all_open.remove(self)
        self._live.update(Text() if last is None else last.picture(self._width))
        self._live.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TerminalScreen.forget_all)


class NotebookScreen:
    """An output of the cell that is replaced in place; needs nothing but IPython."""

    def __init__(self) -> None:
        self._handle: Any = None

    def open(self) -> None:
        """Do nothing: the output is made by the first frame."""

    def draw(self, frame: Frame) -> None:
        """Replace the output."""
        ipython: Any = importlib.import_module("IPython.display")  # only a notebook is sure to have it
        html = ipython.HTML(export.to_html(frame.picture(NOTEBOOK_WIDTH), width=NOTEBOOK_WIDTH))
        if self._handle is None:
            self._handle = ipython.display(html, display_id=True)
        else:
            self._handle.update(html)

    def close(self, last: Frame | None) -> None:
        """Replace it for the last time."""
        if last is not None:
            self.draw(last)


class LineScreen:
    """A pipe, a file or the log of a CI job: a line now and then, without control codes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._frames = 0

    def open(self) -> None:
        """Do nothing: the first line comes when there is something to tell."""

    def draw(self, frame: Frame) -> None:
        """Print a line, once in so many frames."""
        if self._frames and self._frames % LINE_EVERY == 0:
            self._print(frame)
        self._frames += 1

    def close(self, last: Frame | None) -> None:
        """Print the last line."""
        if last is not None:
            self._print(last)

    def _print(self, frame: Frame) -> None:
        self._console.file.write(f"{frame.line()}\n")
        self._console.file.flush()
