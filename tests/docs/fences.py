"""The fenced blocks of Markdown pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [page for page in sorted(ROOT.glob("docs/**/*.md")) if page.parent.name != "reference"]

_FENCE = re.compile(
    r"^(?P<above>.*)\n(?P<indent> *)```(?P<info>\S.*)\n(?P<body>(?:.*\n)*?)(?P=indent)```$", re.MULTILINE
)
_NOT_RUN = re.compile(r"<!-- not run: \S.*-->")


class Block(NamedTuple):
    """One fenced block.

    Attributes:
        name: Its page and line.
        info: What follows the opening fence.
        body: Its content.
        not_run: Whether the line above it says why it is not run.
    """

    name: str
    info: str
    body: str
    not_run: bool


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("info")) + 1
        body = re.sub(f"^{match['indent']}", "", match["body"], flags=re.MULTILINE)
        name = f"{page.relative_to(ROOT)}:{line}"
        found.append(Block(name, match["info"].strip(), body, bool(_NOT_RUN.search(match["above"]))))
    return found
