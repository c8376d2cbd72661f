"""What a driver does, whatever the tool: which calls it submits first, and which when another one ends.

A script is a generator. It yields the arguments of the calls to submit, receives the result of each call that ends,
and returns when all have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Any

Script = Generator[Iterable[Any], Any, None]

WARM_UP = 64
"""Calls after which workers are up and all one-time setup is done."""


def flow(arguments: Iterable[Any], in_flight: int, react: Callable[[Any], object] | None = None) -> Script:
    """Submit calls with these arguments, `in_flight` at first and then one for each that ends, until all have ended.

    `react` gets each result before the next call is submitted.
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
