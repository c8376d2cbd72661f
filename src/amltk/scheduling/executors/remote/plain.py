"""Pickles of values that come back to the same program, in this session or in a later one."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors._transfer.exception_parts import Refers, dump_part

if TYPE_CHECKING:
    from amltk.scheduling.executors._transfer.exception_parts import Refer


class _PartPickler(Refers, pickle.Pickler):
    """Pickles the parts of an exception."""


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


def pickle_part_by_name(obj: Any, refer: Refer) -> bytes:
    """The same for a part of an exception, see `pickle_part`: callbacks and plugins will ask for its class."""
    try:
        return dump_part(lambda file: _PartPickler(file, protocol=5), obj, refer)
    except Exception:  # noqa: BLE001 - as above
        from amltk.scheduling.executors.remote.pickling import pickle_part

    return pickle_part(obj, refer)
