"""Shared by all views: styles, their colours in documents, and lines of text."""

from __future__ import annotations

from rich.terminal_theme import TerminalTheme
from rich.text import Text

QUIET = "dim"
TITLE = "bold not dim"  # readable within a frame, which is dim
FRAME = "dim"
EVENT = "cyan"
KEYWORD = "magenta"
ACTIVE = "green"
PENDING = "blue"
RUNNING = "magenta"
TIME = "cyan"
DONE = "green"
FAILED = "red"
CANCELLED = "yellow"

# Mid-tones: each has a contrast of at least 3:1 against white and against the dark background of documentation pages.
COLOURS = [
    (110, 115, 120),
    (212, 74, 66),
    (34, 148, 83),
    (168, 124, 0),
    (52, 120, 214),
    (172, 88, 196),
    (14, 140, 160),
    (128, 132, 138),
]

PAGE = TerminalTheme(background=(255, 255, 255), foreground=(0, 0, 0), normal=COLOURS, bright=COLOURS)
"""For HTML embedded in a page: the text keeps the page's own colour, so only the colours above are visible."""


def one_line(*parts: str | tuple[str, str]) -> Text:
    """A line, cut off where room ends. It is made without markup, so that users' names stay as they are."""
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
