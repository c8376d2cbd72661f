"""Consoles that write into a string."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from rich.console import RenderableType


def console(*, terminal: bool = False, width: int = 80, **options: Any) -> Console:
    """A console that ignores the environment."""
    return Console(
        file=io.StringIO(),
        width=width,
        height=40,
        force_terminal=terminal,
        force_interactive=terminal,
        force_jupyter=False,
        color_system=None,
        legacy_windows=False,
        _environ={},
        **options,
    )


def written(to: Console) -> str:
    """The text written to such a console."""
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def picture(renderable: RenderableType, *, width: int = 80) -> str:
    """The rendered text of a renderable."""
    to = console(width=width)
    to.print(renderable)
    return written(to)


def lines(renderable: RenderableType, *, width: int = 80) -> list[str]:
    """The same line by line, without the surrounding frame and the branches of trees."""
    return [line.strip("│╭╮╰╯ ") for line in picture(renderable, width=width).splitlines()]
