"""Finds the view that shows a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from amltk import _extras

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from amltk.scheduling._journal.options import Journal
    from amltk.scheduling._loop.refresh import View

Display: TypeAlias = "bool | Literal['auto', 'web'] | Iterable[RenderableType]"
"""The option `display` of `Scheduler.run`."""


def view_of(
    scheduler: Any, display: Display, more: Sequence[RenderableType], timeout: float | None, journal: Journal | None
) -> View | None:
    """The view of a run.

    Args:
        scheduler: The scheduler to show.
        display: The user's option.
        more: What else to show.
        timeout: The timeout of the run, in seconds.
        journal: The options of its journal; None if it has none.

    Returns:
        The view; None if the run is not to be shown.

    Raises:
        ValueError: `display` is none of its values.
        MissingExtraError: rich, or what serves the page, is needed and not installed.
    """
    if display is False or (display == "auto" and not _in_notebook()):
        return None
    if display == "web":
        web = _extras.load("amltk.web.view", needs=("starlette", "uvicorn"), extra="web")
        page: View = web.WebView(scheduler, None if journal is None else os.path.abspath(journal.folder))  # noqa: PTH100
        return page
    if display is True or display == "auto":
        given: list[RenderableType] = []
    elif isinstance(display, str) or not isinstance(display, Iterable):
        raise ValueError(f"display={display!r}: must be True, False, 'auto', 'web' or rich renderables")
    else:
        given = list(display)
    live = _extras.load("amltk.display.live", needs="rich", extra="rich")
    view: View = live.LiveDisplay(scheduler, [*more, *given], timeout=timeout)
    return view


def _in_notebook() -> bool:
    """Whether this is a notebook kernel; IPython in a terminal is not."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and type(shell).__name__ in {"ZMQInteractiveShell", "Shell"}  # "Shell" is Colab's
