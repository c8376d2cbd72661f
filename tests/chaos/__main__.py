"""`python -m tests.chaos`: 20,000 calls while processes are killed and stopped, then programs that end in many ways."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter

from tests.chaos.deaths import WAYS, die
from tests.chaos.siege import besiege

SHARES = {"forkserver": 0.5, "fork": 0.35, "spawn": 0.15}
"""The share of the calls for each way to start workers."""

COLUMNS = ("calls", "begun", "results", "exceptions", "cancelled", "lost workers", "killed", "stopped", "seconds")


def main() -> int:
    """Print a table. Return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000, help="how many in all")
    parser.add_argument("--deaths", type=int, default=48, help="how many programs are ended")
    parser.add_argument("--seed", type=int, help="what all choices depend on, apart from the time that things take")
    parser.add_argument("--only", choices=SHARES, help="one way to start workers")
    parser.add_argument("--keep", help="the folder for what was recorded of calls with which something went wrong")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    say(f"seed {seed}")
    methods = SHARES if options.only is None else {options.only: 1.0}
    problems = attacks(options.calls, methods, seed, options.keep)
    problems += deaths(options.deaths, [*methods], seed)
    say(
        "",
        *problems,
        f"{len(problems)} problems, seed {seed}" if problems else "nothing lost, nothing twice, nothing left",
    )
    return int(bool(problems))


def attacks(calls: int, methods: dict[str, float], seed: int, keep: str | None) -> list[str]:
    """The first part; returns what went wrong."""
    problems = []
    say("", f"{'workers by':12}" + "".join(f"{column:>14}" for column in COLUMNS) if calls else "")
    for method, share in methods.items() if calls else ():
        begun = time.monotonic()
        report = besiege(max(1, round(calls * share)), seed, method, keep=keep)
        counts = report.counts + Counter(
            {
                "killed": sum(n for what, n in report.counts.items() if what.startswith("kill ")),
                "stopped": sum(n for what, n in report.counts.items() if what.startswith("stop ")),
                "seconds": round(time.monotonic() - begun),
            }
        )
        say(f"{method:12}" + "".join(f"{counts[column]:14,}" for column in COLUMNS))
        problems += [f"{method}: {problem}" for problem in report.problems]
    return problems


def deaths(n: int, methods: list[str], seed: int) -> list[str]:
    """The second part; returns what went wrong."""
    problems = []
    kinds = [(way, method) for method in methods for way in WAYS]
    if n:
        say("", f"{'program ends by':18}{'workers by':12}{'times':>8}{'last process gone after, at most':>36}")
    for index, (way, method) in enumerate(kinds):
        times = n // len(kinds) + (index < n % len(kinds))
        seen = [die(way, method, seed + number) for number in range(times)]
        if seen:
            say(f"{way:18}{method:12}{times:8}{max(death.seconds for death in seen):34.2f} s")
        problems += [f"{way}, {method}: {problem}" for death in seen for problem in death.problems]
    return problems


def say(*lines: str) -> None:
    """Print lines at once."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
