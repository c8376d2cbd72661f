"""What the start of a process by a fork tells the pools of this process."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_forking: set[int] = set()
"""The threads that are forking workers, or processes that start them."""


def is_forking() -> bool:
    """Whether this thread is forking for a pool."""
    return threading.get_ident() in _forking


@contextmanager
def announced() -> Iterator[None]:
    """Let `is_forking` be true in this block, in the copy of this process as well."""
    _forking.add(threading.get_ident())
    try:
        yield
    finally:
        _forking.discard(threading.get_ident())
