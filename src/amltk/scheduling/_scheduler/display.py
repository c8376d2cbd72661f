"""Finds the view that shows a run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from amltk import _extras

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from amltk.scheduling._run.refresh import View

Display: TypeAlias = "bool | Literal['auto'] | Iterable[RenderableType]"
"""The option `display` of `Scheduler.run`."""


def view_of(scheduler: Any, display: Display, more: Sequence[RenderableType], timeout: float | None) -> View | None:
    """The view of a run.

    Args:
        scheduler: The scheduler to show.
        display: The user's option.
        more: What else to show.
        timeout: The timeout of the run, in seconds.

    Returns:
        The view; None if the run is not to be shown.

    Raises:
        ValueError: `display` is none of its values.
        MissingExtraError: rich is needed and not installed.
    """
    if display is False or (display == "auto" and not _in_notebook()):
        return None
    if display is True or display == "auto":
        given: list[RenderableType] = []
    elif isinstance(display, str) or not isinstance(display, Iterable):
        raise ValueError(f"display={display!r}: must be True, False, 'auto' or rich renderables")
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
