"""How fast the next call is chosen among very many waiting ones, and whether every call gets its turn.

No executor and no loop: calls that request GPUs, CPUs and memory, in virtual time.
"""

from __future__ import annotations

import argparse
import math
import random
import time

from _report import report

from amltk.scheduling._admission.amounts import UNIT
from amltk.scheduling._admission.choice import Choice
from amltk.scheduling._admission.pools import Pools
from amltk.scheduling._admission.shapes import Waiting

SHAPES = 20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--decisions", type=int, default=50_000)
    options = parser.parse_args()
    pools = Pools({"gpu": [str(n) for n in range(8)], "cpu": 64, "memory": "512 GB"})
    gpu, cpu, memory = pools.named.values()
    gpus = (5_000, UNIT, 2 * UNIT, 0)
    shapes = [((gpu, gpus[n % 4]), (cpu, (n % 5 + 1) * UNIT), (memory, (n + 1) * 10**9 * UNIT)) for n in range(SHAPES)]
    choice, chance, number = Choice(pools, lambda: math.inf), random.Random(1), 0

    choices = [chance.randrange(SHAPES) for _ in range(options.waiting + options.decisions)]
    ends = [chance.random() for _ in range(options.decisions)]

    def submit() -> None:
        nonlocal number
        number += 1
        choice.add(Waiting(number), shapes[choices[number - 1]], 0.0, (0.0, number))

    for _ in range(options.waiting):
        submit()
    running = choice.next_ones()
    decided = 0
    began = time.process_time()
    while decided < options.decisions:
        at = int(ends[decided] * len(running))
        running[at], running[-1] = running[-1], running[at]
        grant = running.pop().grant
        assert grant is not None
        grant.give_back()
        submit()
        granted = choice.next_ones()
        running += granted
        decided += max(1, len(granted))
    seconds = time.process_time() - began
    for pool in pools.named.values():
        assert 0 <= pool.used <= pool.total, "more was granted than there is"
    began = time.process_time()
    while choice.n_waiting:
        for waiting in running:
            assert waiting.grant is not None
            waiting.grant.give_back()
        running = choice.next_ones()
        assert running, "nothing is used, and calls wait"
    report(decisions=decided / seconds, drain=time.process_time() - began)


if __name__ == "__main__":
    main()
