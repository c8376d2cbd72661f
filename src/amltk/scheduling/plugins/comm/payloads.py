"""How the data of messages is pickled. Only what comes from a side that has shown the key is ever unpickled."""

from __future__ import annotations

import pickle
from typing import Any

from amltk._notes import add_note

_PLAIN = (type(None), bool, int, float, str, bytes)
"""Types that every worker has: for them the quicker pickle will do."""


def for_worker(data: Any) -> bytes:
    """Pickle what a callback sends: by value where a worker could not import it.

    Raises:
        Exception: It cannot be pickled.
    """
    if type(data) in _PLAIN:
        return pickle.dumps(data, 5)
    return _by_value(data)


def for_driver(data: Any) -> bytes:
    """Pickle what a call sends: by value where it has no name that the driver knows as well.

    Raises:
        Exception: It cannot be pickled.
    """
    try:
        return pickle.dumps(data, 5)
    except (pickle.PicklingError, AttributeError, TypeError):  # something of `__main__`, or local
        return _by_value(data)


def _by_value(data: Any) -> bytes:
    import cloudpickle

    try:
        pickled: bytes = cloudpickle.dumps(data, 5)
    except Exception as error:
        add_note(error, f"this was raised when a message, a {type(data).__name__}, was pickled")
        raise
    return pickled


def load(payload: bytes) -> Any:
    """Unpickle what the other side has sent.

    Raises:
        Exception: It cannot be unpickled here.
    """
    try:
        return pickle.loads(payload)
    except Exception as error:
        add_note(error, "this was raised when the data of a message was unpickled")
        raise
