"""The life of a pool."""

from __future__ import annotations

import enum


class Life(enum.IntEnum):
    """The stages in a pool's life, in order. A pool may skip some, and never goes back."""

    NEW = 0
    """The pool's thread was not started yet: it starts with the first call."""
    OPEN = 1
    """Calls are accepted."""
    CLOSING = 2
    """No more calls are accepted; those that were are computed."""
    BROKEN = 3
    """No more calls are accepted, and those that were fail."""
    OVER = 4
    """Everything has ended; or, in a forked copy of the process, belongs to the parent."""


OPEN = Life.OPEN
"""A name that is found faster than `Life.OPEN`."""
