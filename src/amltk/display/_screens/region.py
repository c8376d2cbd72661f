"""A region of a terminal that is redrawn in place, while everything else that is printed appears above it.

The drawn picture is kept as text, so that output of callbacks, however frequent, costs no drawing. (rich's own `Live`
redraws for each printed line.)

Between two pictures the cursor is on an empty line above the picture. So the output that others, such as processes,
write directly to the terminal is kept: the next picture begins where that output has left the cursor.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import COLOR_SYSTEMS, RenderHook
from rich.segment import ControlType, Segment, Segments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console, ConsoleRenderable, RenderableType

ERASE_LINE = "\x1b[K"
DOWN_AND_ERASE_LINE = f"\x1b[B{ERASE_LINE}"  # on the last line the cursor does not move
SAVE_CURSOR, RESTORE_CURSOR = "\x1b7", "\x1b8"


class Region(RenderHook):
    """See the module's docstring. Closing it leaves the last picture where it is.

    Args:
        console: The console of a terminal. Other output on this console appears above the region as well.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._out: TextIO = sys.stdout
        self._streams: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
        self._lock = threading.RLock()  # threads of an executor print as well
        self._lines: list[list[Segment]] = []
        self._text = ""
        self._height = 1  # height of the terminal, in lines

    def open(self) -> None:
        """Hide the cursor, and redirect output to above the region."""
        self._out = self._console.file  # type: ignore[assignment] # rich says IO[str]
        self._streams = (sys.stdout, sys.stderr)
        self._console.show_cursor(False)
        self._console.push_render_hook(self)
        sys.stdout, sys.stderr = (
            Above(self.print_above, stream) if stream.isatty() else stream for stream in self._streams
        )
        _redirect_logs(self._streams, (sys.stdout, sys.stderr))

    def draw(self, picture: RenderableType) -> None:
        """Replace the picture; one that is higher than the terminal is cut off."""
        console = self._console
        height = console.height
        lines = console.render_lines(picture, pad=False)[: height - 1]
        if console.no_color:
            lines = [list(Segment.remove_color(line)) for line in lines]
        text = "\n".join("".join(map(self._encode, line)) for line in lines)
        with self._lock:
            self._lines, self._text, self._height = lines, text, height
            self.print_above("")

    def print_above(self, text: str) -> None:
        """Print whole lines."""
        with self._lock:
            below = f"\n{self._text}{self._back()}" if self._lines else ""
            self._write(f"{self._erase()}{text}{below}")

    def close(self) -> None:
        """Restore the cursor and the streams, whatever else fails."""
        try:
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, Above):
                    stream.flush()
        finally:
            self.give_back_streams()
            self._console.pop_render_hook()
            with self._lock:
                self._write(f"{self._erase()}{self._text}\n" if self._lines else "")
                self._lines, self._text = [], ""  # the picture stays: later output does not overwrite it
            self._console.show_cursor(True)

    def give_back_streams(self) -> None:
        """Restore the standard streams."""
        above = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = self._streams
        _redirect_logs(above, self._streams)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Rich's hook: print the given renderables above the region."""
        if not self._lines:
            return renderables
        picture = [segment for line in self._lines for segment in (Segment.line(), *line)]
        return [Segments([_control(self._erase())]), *renderables, Segments([*picture, _control(self._back())])]

    def _erase(self) -> str:
        """Codes that erase the cursor's line and all below, however many there are now: others print, windows shrink.

        It erases line by line. When all that is below is the whole screen, tmux and others first copy it into their
        history on "erase below": a copy of each picture, until the history has no room for real output.
        """
        below = DOWN_AND_ERASE_LINE * (self._height - 1)
        return f"\r{SAVE_CURSOR}{ERASE_LINE}{below}{RESTORE_CURSOR}"

    def _back(self) -> str:
        """Codes that move the cursor from the end of the picture to the line above it."""
        return f"\x1b[{len(self._lines)}A\r"

    def _encode(self, segment: Segment) -> str:
        if segment.control:
            return ""
        if segment.style is None:
            return segment.text
        color_system = self._console.color_system
        return segment.style.render(
            segment.text, color_system=None if color_system is None else COLOR_SYSTEMS[color_system]
        )

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _control(text: str) -> Segment:
    """Text that takes no room on the screen; any control code makes rich treat it so."""
    return Segment(text, None, [(ControlType.CARRIAGE_RETURN,)])


def _redirect_logs(of: Sequence[Any], to: Sequence[Any]) -> None:
    """Redirect log handlers from some streams to others: a handler keeps the stream that it was created with."""
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):  # a placeholder, with loggers only below it, has none
            for old, new in zip(of, to, strict=True):
                if isinstance(handler, logging.StreamHandler) and handler.stream is old:
                    handler.stream = new


class Above(io.TextIOBase):
    """Replaces a standard stream: passes on whole lines, and flushed text as a line of its own.

    Args:
        print_above: Takes whole lines.
        stream: The stream.
    """

    def __init__(self, print_above: Callable[[str], None], stream: TextIO) -> None:
        self._print_above = print_above
        self._rest = ""
        self._lock = threading.RLock()
        self.rich_proxied_file: TextIO = stream  # the name by which rich finds it

    def write(self, text: str) -> int:
        """Print the lines that are now complete."""
        with self._lock:
            whole, newline, self._rest = (self._rest + text).rpartition("\n")
            if newline:
                self._print_above(whole + newline)
        return len(text)

    def flush(self) -> None:
        """Print the rest as a line: a program that flushes wants its text to be seen."""
        with self._lock:
            rest, self._rest = self._rest, ""
            if rest:
                self._print_above(f"{rest}\n")

    def fileno(self) -> int:
        """The descriptor of the stream."""
        return self.rich_proxied_file.fileno()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self.rich_proxied_file.isatty()

    def writable(self) -> bool:
        """Always true."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream."""
        return self.rich_proxied_file.encoding

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)
