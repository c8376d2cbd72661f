"""`python -m benchmarks`: measure, print a table, plot it, and fail if a bound is missed."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.plot import save
from benchmarks.rows import ROWS, Setting
from benchmarks.subjects import PEERS, TOOLS, installed, is_set_up, set_up
from benchmarks.table import Line, as_data, as_page, as_text

PLOT = Path(__file__).with_name("results") / "ratios.svg"


def main() -> int:
    given = parse()
    if not given.quick:
        make_environment()
    setting = Setting(quick=given.quick, tools=installed(), most_rounds=given.rounds)
    began = time.monotonic()
    lines: list[Line] = []
    late: list[str] = []
    for name in given.rows or ROWS:
        passed = time.monotonic() - began
        if given.minutes is not None and passed > 60 * given.minutes:
            late.append(name)
            continue
        print(f"{passed:5.0f} s  {name} ...", file=sys.stderr)
        lines += ROWS[name](setting)
        write_tables(given.plot, lines, as_text(lines))  # in case a later row fails
    missed = [line for line in lines if line.ok is False]
    verdict = summary(lines, time.monotonic() - began, quick=given.quick)
    text = "\n".join([as_text(lines), "", verdict, *absent(setting), *not_begun(late)])
    if given.json:
        print(json.dumps({"ok": not missed, "tools": [tool.name for tool in setting.tools], "lines": as_data(lines)}))
    else:
        print(text)
    write_tables(given.plot, lines, text)
    save(lines, given.plot)
    print(f"Written: {given.plot}, and beside it the table as .txt and, for the documentation, .md", file=sys.stderr)
    return 1 if missed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and small repeats; install no peer that is missing")
    parser.add_argument("--rows", nargs="+", metavar="ROW", choices=ROWS, help=f"only these of: {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=positive, metavar="N", help="measure everything N times at most; else 1 to 7")
    parser.add_argument("--minutes", type=float, metavar="M", help="begin no row later than this")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.add_argument("--plot", type=Path, metavar="PATH", default=PLOT, help="where the picture goes (.svg, .png)")
    return parser.parse_args()


def positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise ValueError(word)
    return number


def make_environment() -> None:
    """Install the peers that are missing."""
    if not is_set_up(PEERS):
        try:
            set_up(PEERS)
        except subprocess.CalledProcessError as error:
            sys.exit(f"error: no environment for the peers ({error}); try again, or go without them by --quick")


def absent(setting: Setting) -> list[str]:
    """Name the tools that were not measured, too plainly to be overlooked."""
    names = [tool.name for tool in TOOLS if tool not in setting.tools]
    return [f"!!! NOT COMPARED WITH {', '.join(names)}: not installed. Run without --quick."] if names else []


def not_begun(rows: list[str]) -> list[str]:
    """Name the rows for which no time was left."""
    return [f"!!! NO TIME WAS LEFT FOR {', '.join(rows)}: see --minutes."] if rows else []


def write_tables(plot: Path, lines: list[Line], text: str) -> None:
    """Write the table as text and as a page of the documentation, beside the picture."""
    plot.parent.mkdir(parents=True, exist_ok=True)
    plot.with_suffix(".txt").write_text(text + "\n")
    plot.with_suffix(".md").write_text(as_page(lines, [tool.name for tool in TOOLS]) + "\n")


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
