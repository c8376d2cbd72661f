"""A region of a terminal that is redrawn in place, while everything else that is printed goes above it.

What is drawn is kept as text, so that what callbacks print, however often, costs no drawing. (rich's own `Live` draws
anew for each line that is printed.)

Between two pictures the cursor is on an empty line above the picture. So what others write to the terminal itself, such
as processes, is kept: the next picture begins wherever that has moved the cursor to.
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
DOWN_AND_ERASE_LINE = f"\x1b[B{ERASE_LINE}"  # on the last line it stays there
SAVE_CURSOR, RESTORE_CURSOR = "\x1b7", "\x1b8"


class Region(RenderHook):
    """See the module. Closing it leaves the last picture where it is.

    Args:
        console: The console of a terminal. What others print with it goes above the region as well.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._out: TextIO = sys.stdout
        self._streams: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
        self._lock = threading.RLock()  # threads of an executor print as well
        self._lines: list[list[Segment]] = []
        self._text = ""
        self._height = 1  # of the terminal, in lines

    def open(self) -> None:
        """Hide the cursor, and have what is printed go above the region."""
        self._out = self._console.file  # type: ignore[assignment] # rich says IO[str]
        self._streams = (sys.stdout, sys.stderr)
        self._console.show_cursor(False)
        self._console.push_render_hook(self)
        sys.stdout, sys.stderr = (
            Above(self.print_above, stream) if stream.isatty() else stream for stream in self._streams
        )
        _redirect_logs(self._streams, (sys.stdout, sys.stderr))

    def draw(self, picture: RenderableType) -> None:
        """Draw another picture in place of the one that is there; what is higher than the terminal is cut off."""
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
        """Give back cursor and streams, whatever else fails."""
        try:
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, Above):
                    stream.flush()
        finally:
            self.give_back_streams()
            self._console.pop_render_hook()
            with self._lock:
                self._write(f"{self._erase()}{self._text}\n" if self._lines else "")
                self._lines, self._text = [], ""  # it stays: nothing that is printed later takes its place
            self._console.show_cursor(True)

    def give_back_streams(self) -> None:
        """Have what is printed go where it went before."""
        above = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = self._streams
        _redirect_logs(above, self._streams)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """What rich is to print where it was to print something: that, above the region."""
        if not self._lines:
            return renderables
        picture = [segment for line in self._lines for segment in (Segment.line(), *line)]
        return [Segments([_control(self._erase())]), *renderables, Segments([*picture, _control(self._back())])]

    def _erase(self) -> str:
        """Empties the line of the cursor and all below, however many there are by now: others print, windows shrink.

        It does so line by line. Told to erase all that is below, tmux and others keep it in their history first where
        that is the whole screen: a copy of the picture each time, until there is no room for what was printed.
        """
        below = DOWN_AND_ERASE_LINE * (self._height - 1)
        return f"\r{SAVE_CURSOR}{ERASE_LINE}{below}{RESTORE_CURSOR}"

    def _back(self) -> str:
        """Moves the cursor from the end of the picture to the line above it."""
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
    """What takes no room on the screen, as rich is told it: by any code of its own."""
    return Segment(text, None, [(ControlType.CARRIAGE_RETURN,)])


def _redirect_logs(of: Sequence[Any], to: Sequence[Any]) -> None:
    """Have the log handlers of some streams write to others: a handler keeps the stream that it was made with."""
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):  # a name that only has loggers below it has none
            for old, new in zip(of, to, strict=True):
                if isinstance(handler, logging.StreamHandler) and handler.stream is old:
                    handler.stream = new


class Above(io.TextIOBase):
    """Stands in for a standard stream: hands whole lines on, and what is flushed as a line of its own.

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
        """Print what is a whole line by now."""
        with self._lock:
            whole, newline, self._rest = (self._rest + text).rpartition("\n")
            if newline:
                self._print_above(whole + newline)
        return len(text)

    def flush(self) -> None:
        """Print the rest, as a line: what asks for it wants to be seen."""
        with self._lock:
            rest, self._rest = self._rest, ""
            if rest:
                self._print_above(f"{rest}\n")

    def fileno(self) -> int:
        """That of the stream."""
        return self.rich_proxied_file.fileno()

    def isatty(self) -> bool:
        """As the stream."""
        return self.rich_proxied_file.isatty()

    def writable(self) -> bool:
        """It is."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream."""
        return self.rich_proxied_file.encoding

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)
