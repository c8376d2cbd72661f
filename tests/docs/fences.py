"""The fenced blocks of the Markdown pages."""

from __future__ import annotations

import re
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs/index.md", *sorted(ROOT.glob("docs/guide/*.md"))]

FRAGMENT = "<!-- fragment -->"
"""Stands in the line above a block that is part of a program and is not to be run alone."""

OUTPUT = 'text title="output"'
"""Follows the opening fence of a block that holds exactly what the Python block above it prints."""

_FENCE = re.compile(
    r"^(?P<above>.*)\n(?P<indent> *)```(?P<info>\S.*)\n(?P<body>(?:.*\n)*?)(?P=indent)```$", re.MULTILINE
)


class Block(NamedTuple):
    """One fenced block.

    Attributes:
        name: Its page and line.
        info: What follows the opening fence.
        body: What is in it.
        fragment: Whether it is marked as not to be run.
    """

    name: str
    info: str
    body: str
    fragment: bool


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("info")) + 1
        body = re.sub(f"^{match['indent']}", "", match["body"], flags=re.MULTILINE)
        name = f"{page.relative_to(ROOT)}:{line}"
        found.append(Block(name, match["info"].strip(), body, FRAGMENT in match["above"]))
    return found


def programs() -> list[tuple[Block, str | None]]:
    """Every Python block that is to be run, and what it prints where the page says so."""
    found = []
    for page in PAGES:
        here = blocks(page)
        for block, following in zip_longest(here, here[1:]):
            if block.info.startswith("python") and not block.fragment:
                output = following.body if following is not None and following.info == OUTPUT else None
                found.append((block, output))
    return found
