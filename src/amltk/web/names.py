"""The names of experiments on a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def names_of(folders: Sequence[str]) -> list[str]:
    """A name for each folder: its last part, or more of its parts where two would have the same name."""
    parts = [Path(folder).expanduser().absolute().parts for folder in folders]
    names = []
    for mine in parts:
        size = 1
        while size < len(mine) and any(other[-size:] == mine[-size:] for other in parts if other != mine):
            size += 1
        names.append("/".join(mine[-size:]))
    return names
