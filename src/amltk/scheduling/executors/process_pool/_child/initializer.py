"""The pool's initializer and its arguments, and how they get to the workers.

They are pickled once when the pool is created, so that errors are raised there, and then for each worker, in the way in
which `multiprocessing` pickles the arguments of a spawned process: locks, queues and shared values are sent by name and
descriptor.
"""

from __future__ import annotations

import contextlib
import io
import weakref
from functools import partial
from multiprocessing.context import get_spawning_popen, set_spawning_popen
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from amltk import _compat
from amltk.scheduling.executors._transfer.unpicklable import explain
from amltk.scheduling.executors.process_pool._pickling.by_value import ByValue
from amltk.scheduling.executors.process_pool._pickling.descriptor_lending import Loan, Ticket
from amltk.scheduling.executors.process_pool._pickling.pickles import CallPickler, Probing, make_pickler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from amltk.scheduling.executors.process_pool._pickling.definitions import Definitions
    from amltk.scheduling.executors.process_pool._pickling.pickles import CallPayload

_SHARED = {"multiprocessing.heap", "multiprocessing.sharedctypes"}
"""The modules of `multiprocessing` that register how shared memory is pickled."""

_inherited: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
"""Semaphores of the fork context, by id: a forked worker already has them."""


class Initializer:
    """The function that each worker calls before its first call.

    Args:
        function: The function.
        args: Its arguments.
        forks: Whether workers are copies of this process, and have its objects.

    Raises:
        TypeError: The function or an argument cannot be pickled; the message names it.
    """

    def __init__(self, function: Callable[..., object], args: tuple[Any, ...], *, forks: bool) -> None:
        self._function = function
        self._args = args  # kept until the last worker is started
        self._forks = forks
        self._loans: list[Loan] = []
        with _as_if_spawning([]):
            try:
                make_pickler(io.BytesIO()).dump(function)
            except Exception as error:  # noqa: BLE001 - any error is explained
                _refuse(error, [("initializer", function)], make_pickler)
            make_probe = partial(_Probe, forks=forks)
            try:
                make_probe(io.BytesIO()).dump(args)
            except Exception as error:  # noqa: BLE001 - any error is explained
                _refuse(error, [(f"initargs[{n}]", arg) for n, arg in enumerate(args)], make_probe)

    def payload(self, definitions: Definitions) -> CallPayload:
        """The initializer in its present state, as a call without arguments, for one worker.

        Raises:
            Exception: Whatever the methods of the user's objects raise, or a `pickle.PicklingError`.
        """
        with _as_if_spawning(self._loans):
            pickler = _InitializerPickler(definitions, forks=self._forks)
            payload = pickler.payload(partial(self._function, *self._args), None, (), {})
        self._loans += [use for use in payload[3] if isinstance(use, Loan)]
        return payload

    def close(self) -> None:
        """Release lent descriptors: no more workers are started."""
        self._loans.clear()
        self._args = ()


def _refuse(error: Exception, named: list[tuple[str, Any]], make_pickler: Callable[[io.BytesIO], Any]) -> NoReturn:
    raise explain(error, named, make_pickler, "to the worker processes")


class _Sharing(ByValue):
    """Also pickles objects that processes can share only from their start."""

    forks: bool

    def reducer_override(self, obj: Any) -> Any:
        """Let `multiprocessing` share memory, and let forked workers find what they inherited."""
        if self.forks and _compat.is_inherited_by_forks_only(obj):
            _inherited[id(obj)] = obj
            return _inherit, (id(obj),)
        rule = _compat.spawning_reducer(type(obj))
        if rule is not None and rule.__module__ in _SHARED:
            return rule(obj)
        return super().reducer_override(obj)


class _InitializerPickler(_Sharing, CallPickler):
    """Pickles the initializer with its arguments."""

    def __init__(self, definitions: Definitions, *, forks: bool) -> None:
        super().__init__(definitions)
        self.forks = forks


class _Probe(_Sharing, Probing):
    """Finds which argument cannot be pickled."""

    def __init__(self, file: io.BytesIO, *, forks: bool) -> None:
        super().__init__(file, None, set())
        self.forks = forks


def _inherit(number: int) -> Any:
    return _inherited[number]


class _Detachable(NamedTuple):
    """A ticket in the form that `multiprocessing` expects."""

    ticket: Ticket

    def detach(self) -> int:
        """The descriptor."""
        return self.ticket.redeem()


class _Spawning:
    """Stands for a process that `multiprocessing` is about to start and shares things with."""

    DupFd = _Detachable

    def __init__(self, loans: list[Loan]) -> None:
        self._loans = loans

    def duplicate_for_child(self, descriptor: int) -> Ticket:
        """Lend a descriptor to the process."""
        self._loans.append(Loan(descriptor))
        return self._loans[-1].ticket


@contextlib.contextmanager
def _as_if_spawning(loans: list[Loan]) -> Iterator[None]:
    before = get_spawning_popen()
    set_spawning_popen(_Spawning(loans))  # type: ignore[arg-type] # it has what is needed
    try:
        yield
    finally:
        set_spawning_popen(before)
