"""Ends a driver at random moments, in all the ways in which programs end, and looks what is left of it."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import signal
import time
from typing import NamedTuple

from tests.chaos.siege import SECONDS, Driver
from tests.helpers.gate import GUARD

WAYS = ("kill -9", "SIGTERM", "SIGHUP", "closed terminal")

METHODS = ("forkserver", "fork", "spawn")

SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}

MANY = 10**6
"""More calls than a driver computes before it is ended."""


class Death(NamedTuple):
    """How a driver ended.

    Attributes:
        way: One of `WAYS`.
        method: How it had started its workers.
        seconds: How long the last of its processes was left after its own end.
        problems: What was left for too long.
    """

    way: str
    method: str
    seconds: float
    problems: list[str]


def die(way: str, method: str, seed: int, *, patience: float = SECONDS) -> Death:
    """Start a driver, end it at a random moment, and wait until nothing is left of it.

    Args:
        way: One of `WAYS`.
        method: How it starts its workers.
        seed: What the moment depends on.
        patience: How long its processes may be left, in seconds.
    """
    choose = random.Random(f"{way} {method} {seed}")
    with contextlib.ExitStack() as stack:
        terminal = stack.enter_context(_Terminal()) if way == "closed terminal" else None
        name = None if terminal is None else terminal.name
        driver = stack.enter_context(Driver(MANY, seed, method, terminal=name))
        _let_run(driver, choose)
        had_ended = driver.process.poll() is not None
        if terminal is not None:
            terminal.close()
        else:
            driver.process.send_signal(SIGNALS[way])
        driver.process.wait(GUARD)
        ended = time.monotonic()
        left = driver.left_behind(patience)
        seconds = time.monotonic() - ended
        if had_ended:
            left.append("it had ended before")
        if left:
            left.append(f"it wrote: {driver.errors()[-3000:]}")
        return Death(way, method, seconds, left)


def _let_run(driver: Driver, choose: random.Random) -> None:
    """Let it run for a while, mostly beyond its first call."""
    size = choose.choice([0, 1, 500, 3000])
    give_up = time.monotonic() + GUARD
    while driver.size() < size and driver.process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.005)
    time.sleep(choose.uniform(0, 0.5))


class _Terminal:
    """A new terminal.

    Attributes:
        name: Its path.
    """

    def __init__(self) -> None:
        leader, follower = pty.openpty()
        self._leader = open(leader, "rb", buffering=0)  # noqa: SIM115 - see `close`
        self.name = os.ttyname(follower)
        os.close(follower)

    def close(self) -> None:
        """Close it, as somebody who closes its window."""
        self._leader.close()

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
