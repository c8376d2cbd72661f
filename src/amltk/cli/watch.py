"""`watch`: the live display of a run that goes on in another process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk import _extras

if TYPE_CHECKING:
    import argparse


def watch(options: argparse.Namespace) -> int:
    """Show it until its run ends, or Ctrl-C."""
    display: Any = _extras.load("amltk.display.journal", needs="rich", extra="rich")
    display.watch(options.folder)
    return 0
