"""README.md: what it shows of the project matches the project."""

from __future__ import annotations

import re
import tomllib
from itertools import zip_longest

import pytest

from amltk.scheduling import Comm, Limiter, Limits, Retry, Scheduler, Task
from amltk.scheduling.plugins.pynisher import PynisherPlugin
from amltk.scheduling.plugins.trackers.tracker import Tracker
from tests.docs import fences
from tests.docs.fences import README
from tests.helpers.script import run_script

DEMO = fences.ROOT / "examples/demo.py"

OUTPUT = 'text title="output"'
"""Follows the opening fence of a block that holds exactly what the Python block above it prints."""


def demo_block() -> str:
    return next(block.body for block in fences.blocks(README) if "examples/demo.py" in block.info)


def test_the_demo_is_shown_as_it_is() -> None:
    """The block titled examples/demo.py is a verbatim part of that file."""
    assert len(demo_block().splitlines()) > 30
    assert demo_block() in DEMO.read_text()


def programs() -> list[tuple[fences.Block, str | None]]:
    """Every Python block to be run, and its output if README shows it."""
    here = fences.blocks(README)
    return [
        (block, following.body if following is not None and following.info == OUTPUT else None)
        for block, following in zip_longest(here, here[1:])
        if block.info.startswith("python") and not block.not_run
    ]


@pytest.mark.parametrize(("block", "output"), [pytest.param(*program, id=program[0].name) for program in programs()])
def test_a_program_runs_and_prints_what_is_said(block: fences.Block, output: str | None) -> None:
    """The program succeeds without a warning or a leftover process, and prints the output block after it, if any."""
    ended = run_script(block.body, "-W", "error")
    assert (ended.code, ended.errors) == (0, "")
    if output is not None:
        assert "\n".join(ended.lines) == output.rstrip("\n")


def test_the_two_commands_come_first() -> None:
    """The first block has the two commands, and both are Makefile targets."""
    commands = re.findall(r"^make (\w+)", fences.blocks(README)[0].body, re.MULTILINE)
    assert commands == ["demo", "test"]
    for command in commands:
        assert re.search(rf"^{command}:", (fences.ROOT / "Makefile").read_text(), re.MULTILINE)


def test_what_it_is_for_and_how_to_install_it_come_before_programs() -> None:
    """README says why, compared with known tools, then how, and that the name on PyPI belongs to another package."""
    before = README.read_text().partition("```python")[0]
    why, _, how = before.partition("\n## Install\n")
    assert re.findall(r"^- \*\*(\w+)\*\*", why, re.MULTILINE) == ["joblib", "Optuna", "Dask", "Ray", "Prefect"]
    assert "pip install '." in how
    assert "on PyPI belongs to another package" in how


def test_every_event_is_named() -> None:
    """The tables of events list exactly the events of schedulers, tasks and plugins."""
    scheduler = Scheduler.with_sequential()
    pynisher = PynisherPlugin(walltime_limit=1)
    plugins = [Limiter(), Limits(wall_time=1), Retry(), Comm.Plugin(parameter_name="end"), pynisher, Tracker()]
    known = {str(event) for event in [*scheduler.emitter.events, *Task(print, scheduler, plugins=plugins).events]}
    rows = re.findall(r"^\| (`@.*?) \|", README.read_text(), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(@[a-z-]+)`", row)} == known


def test_every_extra_is_named() -> None:
    """The extras listed are exactly those of pyproject.toml."""
    extras = tomllib.loads((fences.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    rows = re.findall(r"^\| (`.*?) \|", _section("Install"), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([a-z]+)`", row)} == set(extras)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)", README.read_text()))))
def test_a_link_leads_somewhere(target: str) -> None:
    """Links point to files in the repository."""
    assert (fences.ROOT / target).exists()


def _section(title: str) -> str:
    return README.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
