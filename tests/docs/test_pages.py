"""The documentation pages: `make site` runs their programs, so everything they need must be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import fences


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in fences.PAGES])
def test_every_program_is_run_by_the_build(page: Path) -> None:
    """A Python block is executed and shown with its output, or the line above it says why it cannot be."""
    for block in fences.blocks(page):
        if block.info.startswith("python") and not block.not_run:
            assert 'exec="' in block.info, block.name
            generates_text = 'source="' not in block.info
            assert generates_text or "result=" in block.info or "html=" in block.info, block.name


def test_no_output_is_made_up() -> None:
    """Program output is never written by hand."""
    blocks = [block for page in fences.PAGES for block in fences.blocks(page)]
    assert [block.name for block in blocks if 'title="output"' in block.info] == []
