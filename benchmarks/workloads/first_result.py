"""Seconds from creating a tool's workers to the callback for the first result; the tool is already imported."""

from __future__ import annotations

import argparse
import time

from _functions import sleep
from _report import report
from _scripts import flow
from _tools import TOOLS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=TOOLS)
    tool = TOOLS[parser.parse_args().tool]
    exec(tool.statement)
    ends: list[float] = []
    began = time.perf_counter()
    with tool.open(sleep) as drives:
        drives[0](flow([0.0], 1, lambda _result: ends.append(time.perf_counter())))
    report(seconds=ends[0] - began)


if __name__ == "__main__":
    main()
