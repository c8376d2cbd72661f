"""What is measured, and in which environment: this package and the peers it is compared with."""

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
        name: Its name in the table.
        python: The interpreter of its environment.
        version: The version that the workloads must report, so that the right package is measured; None for any.
    """

    name: str
    python: Path
    version: str | None = None

    def environment(self) -> dict[str, str]:
        """The variables its workloads run with: the same for all, except for the path to the package."""
        # Users' interpreters cache byte code; without the cache every import would compile.
        left_out = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
        variables = {name: value for name, value in os.environ.items() if name not in left_out}
        return variables | ({"PYTHONPATH": str(ROOT / "src")} if self.version is None else {})


OURS = Subject("ours", Path(sys.executable))
PEERS = Subject("peers", ROOT / ".venv-peer" / "bin" / "python", "1.12.1")
"""The environment shared by all peers, including the `amltk` that this package replaces."""
BESIDE_PEERS = Subject("ours beside peers", PEERS.python)
"""This package, in the environment of the peers that it runs on."""
FREE_THREADED = Subject("ours, free-threaded", ROOT / ".venv-free" / "bin" / "python")
"""This package on a free-threaded CPython, see `make free`."""


@dataclass(frozen=True)
class Tool:
    """A tool that can compute a function in worker processes.

    Attributes:
        name: Its name in the table.
        key: Its name in the workloads.
        module: The module that must be importable.
        subject: Where it is installed.
        for_few: Whether it takes part only in the rows that name it, since it cannot do what the others need.
    """

    name: str
    key: str
    module: str
    subject: Subject = PEERS
    for_few: bool = False


US = Tool("ours", "scheduler", "amltk", OURS)
STDLIB = Tool("stdlib", "stdlib", "concurrent.futures", OURS)
JOBLIB = Tool("joblib", "joblib", "joblib", for_few=True)
AMLTK = Tool("AMLTK 1.12.1", "scheduler", "amltk")
TOOLS = (
    STDLIB,
    Tool("loky", "loky", "loky"),
    JOBLIB,
    Tool("Pebble", "pebble", "pebble"),
    Tool("mpire", "mpire", "mpire"),
    AMLTK,
    Tool("executorlib", "executorlib", "executorlib"),
    Tool("Parsl", "parsl", "parsl"),
    Tool("Dask", "dask", "distributed"),
    Tool("Ray", "ray", "ray"),
    Tool("HyperQueue", "hyperqueue", "hyperqueue", for_few=True),
)
"""The tools that this package is compared with."""


def installed() -> tuple[Tool, ...]:
    """The tools that are installed."""
    return tuple(tool for tool in TOOLS if tool.subject is OURS or _has(tool.module))


def is_set_up(subject: Subject) -> bool:
    """Whether the environment is complete and matches the current requirements."""
    stamp = _stamp(subject)
    return stamp.exists() and stamp.read_text() == REQUIREMENTS.read_text()


def set_up(subject: Subject) -> None:
    """Create a peer's environment from the package index that pip is configured for.

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
