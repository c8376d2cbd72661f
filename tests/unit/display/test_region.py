"""A region of a terminal that is redrawn in place."""

from __future__ import annotations

import io
import logging
import re
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import pytest
from rich.console import Console
from rich.text import Text

from amltk.display._screens.region import Region
from tests.unit.display.drawing import console, written

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOW_CURSOR = "\x1b[?25h"
HIDE_CURSOR = "\x1b[?25l"


class Tty(io.StringIO):
    """A standard stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def region_on(to: Console, *, stdout: TextIO | None = None) -> Iterator[Region]:
    """A region that is open while the standard streams are terminals; afterwards the streams must be restored."""
    before = sys.stdout, sys.stderr
    own = sys.stdout, sys.stderr = stdout or Tty(), Tty()
    try:
        region = Region(to)
        region.open()
        yield region
        region.close()
        assert (sys.stdout, sys.stderr) == own
    finally:
        sys.stdout, sys.stderr = before


CODE = re.compile(r"\x1b(?:\[\??(\d*)([A-Za-z])|([78]))|(.)", re.DOTALL)


def screen(text: str, *, width: int = 40) -> list[str]:
    """The screen of a terminal after this output; it knows lines, moving up and down, and erasing a line, no more."""
    lines, row, saved = [""], 0, 0
    for number, code, cursor, character in CODE.findall(text):
        if cursor == "7":
            saved = row
        elif cursor == "8":
            row = saved
        elif code == "A":
            row -= int(number)
            assert row >= 0, "it moved above its beginning"
        elif code == "B":
            row = min(row + 1, len(lines) - 1)  # nothing below needs to be erased
        elif code == "K":
            lines[row] = ""
        elif character == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif character != "\r":  # always followed by erasing
            lines[row] += character
    while len(lines) > row + 1 and not lines[-1]:
        lines.pop()
    assert all(len(line) <= width for line in lines)
    return lines


@pytest.fixture
def to() -> Console:
    """A terminal."""
    return console(terminal=True, width=40)


def test_a_picture_replaces_the_one_before(to: Console) -> None:
    """Pictures of any height are drawn in the same place; the last one stays, with the cursor below it."""
    with region_on(to) as region:
        region.draw(Text("one\ntwo\nthree"))
        assert screen(written(to)) == ["", "one", "two", "three"]
        region.draw(Text("four"))
        assert screen(written(to)) == ["", "four"]
        region.draw(Text("five\nsix"))
    assert screen(written(to)) == ["five", "six", ""]
    assert written(to).startswith(HIDE_CURSOR)
    assert written(to).endswith(SHOW_CURSOR)


def test_what_is_printed_goes_above(to: Console) -> None:
    """Lines on both streams, rich's output, and partial lines once complete, appear above the picture."""
    with region_on(to) as region:
        region.draw(Text("picture\nof two lines"))
        print("[b]a line[/b]")  # noqa: T201 - what callbacks do
        print("an ", end="")  # noqa: T201
        print("error", file=sys.stderr)  # noqa: T201
        assert screen(written(to)) == ["[b]a line[/b]", "error", "", "picture", "of two lines"]
        to.print("by rich")
        print("end")  # noqa: T201
        above = ["[b]a line[/b]", "error", "by rich", "an end"]
        assert screen(written(to)) == [*above, "", "picture", "of two lines"]


def test_what_is_flushed_is_seen_at_once(to: Console) -> None:
    """A prompt that is not a whole line gets its own line as soon as it is flushed, at the latest at the end."""
    with region_on(to) as region:
        region.draw(Text("picture"))
        print("prompt> ", end="", flush=True)  # noqa: T201
        print("rest", end="")  # noqa: T201
        assert screen(written(to)) == ["prompt> ", "", "picture"]
    assert screen(written(to)) == ["prompt> ", "rest", "picture", ""]


def test_what_is_logged_goes_above(to: Console) -> None:
    """A handler created before the run logs above the picture, and afterwards where it did before."""
    log = logging.getLogger("program.of.a.user")
    log.addHandler(handler := logging.StreamHandler(stream := Tty()))
    with region_on(to, stdout=stream) as region:
        region.draw(Text("picture\nof two lines"))
        log.warning("be careful")
        assert screen(written(to)) == ["be careful", "", "picture", "of two lines"]
    log.warning("over")
    log.removeHandler(handler)
    assert stream.getvalue() == "over\n"


def test_what_is_printed_late_leaves_the_picture(to: Console) -> None:
    """Code that kept a run's stream prints below its last picture, and erases no line of it."""
    with region_on(to) as region:
        kept = sys.stdout
        region.draw(Text("picture\nof two lines"))
    print("late", file=kept)
    assert screen(written(to)) == ["picture", "of two lines", "late", ""]


def test_what_others_write_is_kept(to: Console) -> None:
    """What a process writes directly to the terminal stays above the next picture, and no old picture remains."""
    with region_on(to) as region:
        region.draw(Text("picture\nof two lines"))
        to.file.write("from a worker\n")
        region.draw(Text("picture\nof two lines"))
        assert screen(written(to)) == ["from a worker", "", "picture", "of two lines"]
        to.file.write("another\n")
    assert screen(written(to)) == ["from a worker", "another", "picture", "of two lines", ""]


def test_printing_draws_nothing(to: Console) -> None:
    """However much is printed, the picture is drawn only when requested."""
    drawn: list[int] = []

    class Counted:
        def __rich__(self) -> str:
            drawn.append(1)
            return "picture"

    with region_on(to) as region:
        region.draw(Counted())
        for n in range(100):
            print(n)  # noqa: T201
            to.print(n)
    assert len(drawn) == 1


def test_a_picture_that_is_too_high_is_cut(to: Console) -> None:
    """Lines beyond the terminal's height, minus the empty one, could not be erased again: they are omitted."""
    with region_on(to) as region:
        region.draw(Text("\n".join(map(str, range(100)))))
    assert screen(written(to)) == [*map(str, range(to.height - 1)), ""]


def test_a_stream_that_is_no_terminal_is_left_alone(to: Console) -> None:
    """A program's output to a file or a pipe stays there, even if a display is shown elsewhere."""
    file = io.StringIO()
    with region_on(to, stdout=file):
        print("result")  # noqa: T201
        print("news", file=sys.stderr)  # noqa: T201
    assert file.getvalue() == "result\n"
    assert screen(written(to))[0] == "news"


def test_threads_print_whole_lines(to: Console) -> None:
    """Lines of several threads appear whole above the picture, which is there once at the end."""
    with region_on(to) as region:
        region.draw(Text("picture\nof two lines"))
        threads = [
            threading.Thread(target=lambda n=n: [sys.stdout.write(f"{n}\n") for _ in range(50)]) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    shown = screen(written(to))
    assert shown[-3:] == ["picture", "of two lines", ""]
    assert sorted(shown[:-3]) == sorted(str(n) for n in range(4) for _ in range(50))


def test_colours_are_those_of_the_terminal() -> None:
    """A picture uses the terminal's colours, and none if the user wants none."""
    for color_system, no_color, codes in [("standard", False, "31"), (None, False, ""), ("truecolor", True, "")]:
        out = io.StringIO()
        to = Console(file=out, force_terminal=True, color_system=color_system, no_color=no_color, _environ={})
        with region_on(to) as region:
            region.draw(Text("x", style="red"))
        assert (f"\x1b[{codes}mx" in out.getvalue()) == bool(codes)


def test_the_streams_answer_as_before(to: Console) -> None:
    """While a region is open the standard streams are still terminals, with their encoding."""
    stream = Tty()
    stream.mode = "w"  # type: ignore[attr-defined]
    with region_on(to, stdout=stream):
        assert sys.stdout.isatty()
        assert sys.stdout.writable()
        assert sys.stdout.encoding == stream.encoding
        assert sys.stdout.mode == "w"
        with pytest.raises(io.UnsupportedOperation):
            sys.stdout.fileno()
