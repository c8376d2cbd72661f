"""The initializer of a pool's workers and its arguments, on their way there.

The arguments are pickled when the pool is made, as `multiprocessing` pickles those of a process that it spawns: locks,
queues and shared values travel by their names and descriptors. The function is pickled for each worker, since what it
uses of `__main__` may change until then.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import weakref
from multiprocessing import context
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from amltk.scheduling.executors.process_pool.lending import Loan, Ticket
from amltk.scheduling.executors.process_pool.pickles import _Pickler as Pickler
from amltk.scheduling.executors.process_pool.pickles import by_value
from amltk.scheduling.executors.unpicklable import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SHARED = {"multiprocessing.heap", "multiprocessing.sharedctypes"}
"""The modules of `multiprocessing` that have registered how the memory is pickled that processes share."""

_inherited: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
"""Semaphores of the fork context, by their ids: a worker that is forked has them already."""


class Initializer:
    """What each worker calls before its first call.

    Args:
        function: It.
        args: Its arguments.
        forks: Whether workers are copies of this process, and have what it has.

    Raises:
        TypeError: Something of it cannot travel; the message names it.
    """

    def __init__(self, function: Callable[..., object], args: tuple[Any, ...], *, forks: bool) -> None:
        self._function = function
        self._inherited = args if forks else None  # kept until the last worker is forked
        self._loans: list[Loan] = []
        with _as_if_spawning(self._loans):
            try:
                by_value(function)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is explained
                _refuse(error, [("initializer", function)], lambda file: Pickler(file, None))
            try:
                file = io.BytesIO()
                _ArgumentsPickler(file, self._loans, forks=forks).dump(args)
                self._args = file.getvalue()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is explained
                named = [(f"initargs[{n}]", arg) for n, arg in enumerate(args)]
                _refuse(error, named, lambda file: _ArgumentsPickler(file, self._loans, forks=forks))

    def pickled(self) -> bytes:
        """It as it is now, for one worker; see `load`."""
        return pickle.dumps((by_value(self._function), self._args))

    def close(self) -> None:
        """Take back what was lent: no more workers are started."""
        self._loans.clear()
        self._inherited = None


def load(pickled: bytes) -> tuple[Callable[..., object], tuple[Any, ...]]:
    """The function and its arguments, in a worker."""
    function, args = pickle.loads(pickled)
    return pickle.loads(function), pickle.loads(args)


def _refuse(error: Exception, named: list[tuple[str, Any]], make_pickler: Callable[[io.BytesIO], Any]) -> NoReturn:
    raise explain(error, named, make_pickler, "to the worker processes")


class _ArgumentsPickler(Pickler):
    """Pickles what processes can share only from their beginning."""

    def __init__(self, file: io.BytesIO, loans: list[Loan], *, forks: bool) -> None:
        super().__init__(file, None)
        self._loans = loans
        self._forks = forks

    def reducer_override(self, obj: Any) -> Any:
        """Let `multiprocessing` share memory, and workers that are forked find what they have."""
        if (
            self._forks
            and getattr(obj, "_is_fork_ctx", False)
            and type(obj).__module__ == "multiprocessing.synchronize"
        ):
            _inherited[id(obj)] = obj
            return _inherit, (id(obj),)
        rule = ForkingPickler._extra_reducers.get(type(obj))  # type: ignore[attr-defined] # where they are registered
        if rule is not None and rule.__module__ in _SHARED:
            return rule(obj)
        return super().reducer_override(obj)

    def _lend(self, descriptor: int) -> Ticket:
        loan = Loan(descriptor)
        self._loans.append(loan)
        return loan.ticket


def _inherit(number: int) -> Any:
    return _inherited[number]


class _Detachable(NamedTuple):
    """A ticket as `multiprocessing` takes it."""

    ticket: Ticket

    def detach(self) -> int:
        """The descriptor."""
        return self.ticket.redeem()


class _Spawning:
    """Stands for a process that `multiprocessing` is about to start, with which it shares things."""

    DupFd = _Detachable

    def __init__(self, loans: list[Loan]) -> None:
        self._loans = loans

    def duplicate_for_child(self, descriptor: int) -> Ticket:
        """Have a descriptor be there."""
        self._loans.append(Loan(descriptor))
        return self._loans[-1].ticket


@contextlib.contextmanager
def _as_if_spawning(loans: list[Loan]) -> Iterator[None]:
    before = context.get_spawning_popen()
    context.set_spawning_popen(_Spawning(loans))  # type: ignore[arg-type] # it has what is needed
    try:
        yield
    finally:
        context.set_spawning_popen(before)
