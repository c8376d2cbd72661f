"""README.md: what it shows of the project is what the project has."""

from __future__ import annotations

import re
import tomllib

import pytest

from amltk.scheduling import Limiter, Scheduler, Task
from tests.docs import fences

README = fences.ROOT / "README.md"
DEMO = fences.ROOT / "examples/demo.py"


def demo_block() -> str:
    return next(block.body for block in fences.blocks(README) if "examples/demo.py" in block.info)


def test_the_demo_is_shown_as_it_is() -> None:
    """The block that is called examples/demo.py is a part of that file, to the letter."""
    assert len(demo_block().splitlines()) > 30
    assert demo_block() in DEMO.read_text()


def test_the_two_commands_come_first() -> None:
    """The first block has the two commands, and the Makefile has their targets."""
    commands = re.findall(r"^make (\w+)", fences.blocks(README)[0].body, re.MULTILINE)
    assert commands == ["demo", "test"]
    for command in commands:
        assert re.search(rf"^{command}:", (fences.ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_event_is_named() -> None:
    """The tables of events name all events of schedulers, tasks and the limiter, and no other."""
    scheduler = Scheduler.with_sequential()
    known = {str(event) for event in [*scheduler.emitter.events, *Task(print, scheduler, plugins=Limiter()).events]}
    rows = re.findall(r"^\| (`@.*?) \|", README.read_text(), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(@[a-z-]+)`", row)} == known


def test_no_extra_is_made_up() -> None:
    """The extras that are shown are those of pyproject.toml."""
    extras = tomllib.loads((fences.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"^\| `([a-z]+)`", _section("Install"), re.MULTILINE)) <= set(extras)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)", README.read_text()))))
def test_a_link_leads_somewhere(target: str) -> None:
    """Links are files of the repository."""
    assert (fences.ROOT / target).exists()


def _section(title: str) -> str:
    return README.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
