"""The programs on the pages are what readers copy: each one is run as it stands."""

from __future__ import annotations

import pytest

from tests.docs import fences
from tests.helpers.script import run_script


@pytest.mark.parametrize(
    ("block", "output"), [pytest.param(*program, id=program[0].name) for program in fences.programs()]
)
def test_a_program_of_the_docs_runs_and_prints_what_the_page_says(block: fences.Block, output: str | None) -> None:
    """It ends well, with no warning and no process left, and prints the block that follows it, if that is an output."""
    ended = run_script(block.body, "-W", "error")
    assert (ended.code, ended.errors) == (0, "")
    if output is not None:
        assert "\n".join(ended.lines) == output.rstrip("\n")


def test_every_output_follows_a_program() -> None:
    """No page states an output that nobody compares."""
    stated = [block.name for page in fences.PAGES for block in fences.blocks(page) if block.info == fences.OUTPUT]
    compared = [output for _, output in fences.programs() if output is not None]
    assert len(stated) == len(compared), stated
