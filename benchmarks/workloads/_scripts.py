"""What a driver of calls does, whatever the tool: which calls it submits at first, and which because one has ended.

A script is a generator. It yields the arguments of the calls to submit, is sent the result of each call that ends, and
returns when all have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Any

Script = Generator[Iterable[Any], Any, None]

WARM_UP = 64
"""Calls after which workers are up and everything that is made once is there."""


def flow(arguments: Iterable[Any], in_flight: int, react: Callable[[Any], object] | None = None) -> Script:
    """Submit calls with these arguments, so many at first and then one for each that ends, until all have ended.

    `react` is told of each result before the next call is submitted.
    """
    waiting = iter(arguments)
    unsent = list(islice(waiting, in_flight))
    pending = len(unsent)
    while pending:
        result = yield unsent
        if react is not None:
            react(result)
        unsent = list(islice(waiting, 1))
        pending += len(unsent) - 1
