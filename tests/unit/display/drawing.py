"""Consoles that write into a string."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from rich.console import RenderableType


def console(*, terminal: bool = False, width: int = 80, **options: Any) -> Console:
    """A console of its own, which the environment has no say in."""
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
    """What was written to a console of this kind."""
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def picture(renderable: RenderableType, *, width: int = 80) -> str:
    """What something looks like."""
    to = console(width=width)
    to.print(renderable)
    return written(to)


def lines(renderable: RenderableType, *, width: int = 80) -> list[str]:
    """The same line by line, without the frame around it and the branches of trees at its side."""
    return [line.strip("│╭╮╰╯ ") for line in picture(renderable, width=width).splitlines()]
