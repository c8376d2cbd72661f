"""Who is measured, in which environment: this package, and the peers that it is compared with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).with_name("peer-requirements.txt")


@dataclass(frozen=True)
class Subject:
    """One package under measurement.

    Attributes:
        name: As the table shows it.
        python: The interpreter of its environment.
        version: What the workloads must report, so that nobody is measured in another's place; None for any.
    """

    name: str
    python: Path
    version: str | None = None

    def environment(self) -> dict[str, str]:
        """The variables its workloads run with: the same for all, but for where the package is found."""
        # Users' interpreters cache byte code; without it every import would compile.
        left_out = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
        variables = {name: value for name, value in os.environ.items() if name not in left_out}
        return variables | ({"PYTHONPATH": str(ROOT / "src")} if self is OURS else {})


OURS = Subject("ours", Path(sys.executable))
PEERS = Subject("peers", ROOT / ".venv-peer" / "bin" / "python", "1.12.1")
"""The environment of all peers; the `amltk` in it is the one whose place this package takes."""


@dataclass(frozen=True)
class Tool:
    """Somebody who can compute a function in worker processes.

    Attributes:
        name: As the table shows it.
        key: As the workloads know it.
        module: What must be there to import.
        subject: Where it is installed.
    """

    name: str
    key: str
    module: str
    subject: Subject = PEERS


US = Tool("ours", "scheduler", "amltk", OURS)
STDLIB = Tool("stdlib", "stdlib", "concurrent.futures", OURS)
AMLTK = Tool("AMLTK 1.12.1", "scheduler", "amltk")
TOOLS = (
    STDLIB,
    Tool("loky", "loky", "loky"),
    Tool("Pebble", "pebble", "pebble"),
    Tool("mpire", "mpire", "mpire"),
    AMLTK,
    Tool("executorlib", "executorlib", "executorlib"),
    Tool("Parsl", "parsl", "parsl"),
    Tool("Dask", "dask", "distributed"),
    Tool("Ray", "ray", "ray"),
)
"""Whom this package is compared with."""


def installed() -> tuple[Tool, ...]:
    """The tools that are there to be measured."""
    return tuple(tool for tool in TOOLS if tool.subject is OURS or _has(tool.module))


def is_set_up(subject: Subject) -> bool:
    """Whether the environment is complete and was made from the requirements as they are now."""
    stamp = _stamp(subject)
    return stamp.exists() and stamp.read_text() == REQUIREMENTS.read_text()


def set_up(subject: Subject) -> None:
    """Make the environment of a peer, from the package index that pip is configured for.

    Raises:
        subprocess.CalledProcessError: pip could not install it.
    """
    home = subject.python.parent.parent
    shutil.rmtree(home, ignore_errors=True)
    print(f"Making {home.name} from {REQUIREMENTS.name} (once)", file=sys.stderr)
    pip = ["-m", "pip", "--disable-pip-version-check", "--no-input", "-qq", "--python", str(subject.python), "install"]
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    subprocess.run([sys.executable, *pip, "-r", str(REQUIREMENTS)], check=True)
    _stamp(subject).write_text(REQUIREMENTS.read_text())


def _has(module: str) -> bool:
    """Whether the peers' environment has a module, without importing it."""
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return PEERS.python.exists() and subprocess.run([str(PEERS.python), "-c", look], check=False).returncode == 0


def _stamp(subject: Subject) -> Path:
    return subject.python.parent.parent / ".installed"
