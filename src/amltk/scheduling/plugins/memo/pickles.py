"""Outcomes as bytes, and back."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors._transfer.exception_parts import Part, Refers, dump_part
from amltk.scheduling.executors._transfer.failure import Failure, describe, restore
from amltk.scheduling.executors.remote.plain import dumps_by_name
from amltk.scheduling.plugins.memo.store import Kept, Kind

if TYPE_CHECKING:
    from amltk.scheduling.call import Outcome
    from amltk.scheduling.executors._transfer.exception_parts import Refer


def pack(outcome: Outcome) -> Kept:
    """The bytes of an outcome.

    Raises:
        Exception: What pickling a result raised. An exception can always be described.
    """
    if outcome.error is None:
        return Kept(Kind.RESULT, dumps_by_name(outcome.result))
    failure = describe(outcome.error, _dump_part)
    return Kept(Kind.ERROR, pickle.dumps((failure.traceback, *map(tuple, failure.parts)), protocol=5))


def unpack(kept: Kept, origin: str) -> tuple[Any, BaseException | None]:
    """The result, and the exception or None.

    Args:
        kept: The bytes.
        origin: Where they come from, as a note of the exception.

    Raises:
        Exception: What loading them raised, for example since a class is no longer there.
    """
    value = pickle.loads(kept.pickle)
    if kept.kind == Kind.RESULT:
        return value, None
    traceback, *parts = value
    return None, restore(Failure(traceback, tuple(Part(*part) for part in parts)), origin)


class _PartPickler(Refers, pickle.Pickler):
    """Pickles the parts of an exception, its class by its name."""


def _dump_part(part: Any, refer: Refer) -> bytes:
    return dump_part(lambda file: _PartPickler(file, protocol=5), part, refer)
