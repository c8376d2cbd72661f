"""Milliseconds an interpreter takes to start and import something, and the modules that loads."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from _report import report
from _tools import TOOLS

FOREIGN = """
import sys
before = set(sys.modules)
{statement}
tops = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(tops - set(sys.stdlib_module_names) - {{"amltk", "__mp_main__"}}))
"""


def milliseconds(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - began) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=TOOLS)
    statement = TOOLS[parser.parse_args().tool].statement
    program = FOREIGN.format(statement=statement)
    foreign = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    nothing, asyncio, tool = map(milliseconds, ("pass", "import asyncio, concurrent.futures", statement))
    report(foreign=foreign.stdout.split(), tool=tool - nothing, asyncio=asyncio - nothing)


if __name__ == "__main__":
    main()
