"""Pickles of values that come back to the same program, in this session or in a later one."""

from __future__ import annotations

import pickle
from typing import Any


def dumps_by_name(value: Any) -> bytes:
    """Pickle a value: the program's classes and functions by their names, so that they are the same ones later.

    Raises:
        Exception: What has no name goes by value, and that is impossible.
    """
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 - of any object; cloudpickle can take it apart, or says why not
        from amltk.scheduling.executors.remote.pickling import dumps  # few programs need it

    return dumps(value)
