"""`python -m tests.kills`: kills the programs at random moments, 200 times in all, and prints the results."""

from __future__ import annotations

import argparse
import sys

from tests.kills.killing import kill
from tests.kills.programs import PROGRAMS

AT_ONCE = 4
"""How often a program is killed before it may complete."""


def main() -> int:
    """Print a line for each program. Return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many in all")
    parser.add_argument("--seed", type=int, default=0, help="what the moments depend on")
    parser.add_argument("--only", choices=sorted(PROGRAMS), help="one of the programs")
    options = parser.parse_args()
    names = [options.only] if options.only else list(PROGRAMS)
    wrong = 0
    for n, name in enumerate(names):
        left = share = options.kills // len(names) + (n < options.kills % len(names))
        seed, computed, problems = options.seed, 0, []
        while left > 0:
            verdict = kill(name, seed, min(AT_ONCE, left))
            left -= max(1, verdict.kills)
            computed += verdict.computed
            problems += [f"seed {seed}: {problem}" for problem in verdict.problems]
            seed += 1
        wrong += len(problems)
        result = "; ".join(problems) or "right"
        sys.stdout.write(f"{name:8} {share:4} kills, {computed:4} calls computed: {result}\n")
        sys.stdout.flush()
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
