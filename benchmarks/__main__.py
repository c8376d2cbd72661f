"""`python -m benchmarks`: measure, print one table, and fail if a bound is missed."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time

from benchmarks.rows import ROWS, Setting
from benchmarks.subjects import AMLTK, is_set_up, set_up
from benchmarks.table import Line, as_data, as_text


def main() -> int:
    given = parse()
    peer_is_there = find_peer(may_install=not given.quick)
    setting = Setting(quick=given.quick, amltk=AMLTK if peer_is_there else None)
    began = time.monotonic()
    lines: list[Line] = []
    for name in given.rows or ROWS:
        print(f"{name} ...", file=sys.stderr)
        lines += ROWS[name](setting)
    missed = [line for line in lines if line.ok is False]
    if given.json:
        print(json.dumps({"ok": not missed, "peer": peer_is_there, "lines": as_data(lines)}, indent=2))
    else:
        print(as_text(lines))
        print(f"\n{summary(lines, time.monotonic() - began, quick=given.quick)}")
        if not peer_is_there:
            print(f"!!! NO PEER: {AMLTK.name} is not installed, and nothing was compared with it. Run without --quick.")
    return 1 if missed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and small repeats; install no peer that is missing")
    parser.add_argument("--rows", nargs="+", metavar="ROW", choices=ROWS, help=f"only these of: {', '.join(ROWS)}")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    return parser.parse_args()


def find_peer(*, may_install: bool) -> bool:
    """Whether the peer can be measured, after making its environment where that is wanted."""
    if not is_set_up(AMLTK) and may_install:
        try:
            set_up(AMLTK)
        except subprocess.CalledProcessError as error:
            sys.exit(f"error: no environment for the peer ({error}); try again, or leave it out with --quick")
    return is_set_up(AMLTK)


def summary(lines: list[Line], seconds: float, *, quick: bool) -> str:
    verdicts = [line.ok for line in lines if line.bound]
    verdict = f"of {len(verdicts)} bounds {verdicts.count(True)} hold, {verdicts.count(False)} are missed"
    if None in verdicts:
        verdict += f", {verdicts.count(None)} cannot be told"
    machine = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
    kind = "quick, so rough; " if quick else ""
    return f"{verdict} ({kind}medians of interleaved runs, least and greatest in brackets; {machine}; {seconds:.0f} s)"


if __name__ == "__main__":
    sys.exit(main())
