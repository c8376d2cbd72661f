"""Pickles calls and outcomes for the workers of other libraries: cloudpickle, with some corrections."""

from __future__ import annotations

import io
from types import CodeType
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors._transfer.descriptors import RULES, know_connections, refuse
from amltk.scheduling.executors._transfer.exception_parts import Refers, dump_part
from amltk.scheduling.executors.process_pool._pickling.reducers import REDUCERS

if TYPE_CHECKING:
    from pickle import Pickler as CloudPickler  # cloudpickle's has no type hints

    from amltk.scheduling.executors._transfer.exception_parts import Refer
else:
    from cloudpickle import Pickler as CloudPickler

know_connections()


class _Pickler(CloudPickler):
    """Refuses objects that would arrive as something else."""

    def reducer_override(self, obj: Any) -> Any:
        """Send no descriptor numbers, and keep the file names and line numbers of code."""
        if type(obj) is CodeType:  # cloudpickle drops them from 3.1.3 on
            return REDUCERS[CodeType](obj)
        rule = RULES.get(type(obj))
        return super().reducer_override(obj) if rule is None else rule(obj, refuse)


class _PartPickler(Refers, _Pickler):
    """Pickles the parts of an exception."""


def make_pickler(file: io.BytesIO) -> CloudPickler:
    """A pickler for calls and outcomes."""
    return _Pickler(file, protocol=5)


def dumps(obj: Any) -> bytes:
    """Pickle a call or an outcome."""
    file = io.BytesIO()
    make_pickler(file).dump(obj)
    return file.getvalue()


def pickle_part(obj: Any, refer: Refer) -> bytes:
    """Pickle a part of an exception; `refer` returns the numbers of objects sent separately."""
    return dump_part(lambda file: _PartPickler(file, protocol=5), obj, refer)
