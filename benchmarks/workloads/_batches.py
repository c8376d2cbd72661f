"""The rate of calls that are all submitted at once, in batches that suit fast tools and slow ones."""

from __future__ import annotations

import time
from collections.abc import Callable

FEWEST = 8


def rate(run: Callable[[int], int], seconds: float, most: int) -> float:
    """Calls per second of the first batch that takes `seconds`, or has `most` calls; each is twice the one before.

    `run` computes so many calls and returns how many it has computed. Workers are up before the clock runs.
    """
    run(FEWEST)
    calls = FEWEST
    while True:
        began = time.perf_counter()
        done = run(calls)
        took = time.perf_counter() - began
        assert done == calls, f"{done} of {calls} calls were computed"
        if took >= seconds or calls == most:
            return calls / took
        calls = min(2 * calls, most)
