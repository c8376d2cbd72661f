"""Pickles the data of messages. Only data from an authenticated peer is ever unpickled."""

from __future__ import annotations

import pickle
from typing import Any

from amltk._notes import add_note

_PLAIN = (type(None), bool, int, float, str, bytes)
"""Types that every worker has; the faster pickle is enough for them."""


def for_worker(data: Any) -> bytes:
    """Pickle a callback's data: by value if a worker could not import it.

    Raises:
        Exception: The data cannot be pickled.
    """
    if type(data) in _PLAIN:
        return pickle.dumps(data, 5)
    return _by_value(data)


def for_driver(data: Any) -> bytes:
    """Pickle a call's data: by value if it has no name that the driver knows.

    Raises:
        Exception: The data cannot be pickled.
    """
    try:
        return pickle.dumps(data, 5)
    except (pickle.PicklingError, AttributeError, TypeError):  # defined in `__main__`, or local
        return _by_value(data)


def _by_value(data: Any) -> bytes:
    import cloudpickle

    try:
        pickled: bytes = cloudpickle.dumps(data, 5)
    except Exception as error:
        add_note(error, f"raised while pickling a message of type {type(data).__name__}")
        raise
    return pickled


def load(payload: bytes) -> Any:
    """Unpickle data from the peer.

    Raises:
        Exception: The data cannot be unpickled here.
    """
    try:
        return pickle.loads(payload)
    except Exception as error:
        add_note(error, "raised while unpickling the data of a message")
        raise
