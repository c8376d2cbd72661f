"""Milliseconds that an interpreter takes to start and import something, and what that brings in."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from _report import report

AMLTK = "from amltk.scheduling import Scheduler"
FOREIGN = f"""
import sys
before = set(sys.modules)
{AMLTK}
tops = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(tops - set(sys.stdlib_module_names) - {{"amltk", "__mp_main__"}}))
"""
WHAT = {
    "nothing": "pass",
    "asyncio": "import asyncio, concurrent.futures",
    "amltk": AMLTK,
}


def milliseconds(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - began) * 1e3


def main() -> None:
    argparse.ArgumentParser().parse_args()
    foreign = subprocess.run([sys.executable, "-c", FOREIGN], check=True, capture_output=True, text=True)
    report(foreign=foreign.stdout.split(), **{name: milliseconds(code) for name, code in WHAT.items()})


if __name__ == "__main__":
    main()
