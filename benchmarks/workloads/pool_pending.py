"""Microseconds per call, and memory of this process per call, while many others are pending in a tool.

The workers wait until all calls are pending. From then on each call that ends submits another.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

from _functions import wait_for
from _leaving import leave
from _memory import resident
from _pools import WORKERS
from _report import report
from _scripts import Script
from _tools import TOOLS

AT_ONCE = ""
FIRST_BATCH = 256
"""Calls made pending before memory is counted, so that one-time costs are excluded."""


def script(pending: int, calls: int) -> Script:
    gate = Path(tempfile.mkdtemp()) / "gate"
    bytes_each = 0.0

    def fill() -> Iterator[str]:
        nonlocal bytes_each
        yield from chain(repeat(str(gate), WORKERS), repeat(AT_ONCE, FIRST_BATCH))
        gc.collect()
        before = resident()
        yield from repeat(AT_ONCE, pending - FIRST_BATCH)
        gc.collect()
        bytes_each = (resident() - before) / (pending - FIRST_BATCH)
        gate.touch()

    yield fill()
    for _ in range(calls):  # the first ones come in a burst
        yield [AT_ONCE]
    began = time.perf_counter()
    for _ in range(calls):
        yield [AT_ONCE]
    microseconds = (time.perf_counter() - began) / calls * 1e6
    gate.unlink()
    gate.parent.rmdir()
    report(microseconds=microseconds, bytes=bytes_each)
    leave()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("--pending", type=int, required=True)
    parser.add_argument("--calls", type=int, required=True)
    given = parser.parse_args()
    with TOOLS[given.tool].open(wait_for) as drives:
        drives[0](script(given.pending, given.calls))


if __name__ == "__main__":
    main()
