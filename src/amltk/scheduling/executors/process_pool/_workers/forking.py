"""What the start of a process by a fork tells the pools of this process."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_forking: set[int] = set()
"""The threads that are forking workers, or processes that start them."""


def is_forked_for_pool() -> bool:
    """Whether this process, a copy that was just forked, was forked for a pool. To be asked once in each copy."""
    is_ours = threading.get_ident() in _forking
    _forking.clear()  # the other threads are not in the copy, and new ones get their numbers
    return is_ours


@contextmanager
def announced() -> Iterator[None]:
    """Let `is_forked_for_pool` be true in a copy of this process that is forked in this block."""
    _forking.add(threading.get_ident())
    try:
        yield
    finally:
        _forking.discard(threading.get_ident())
