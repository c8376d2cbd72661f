"""Which calls wait for the results of others, that are among their arguments."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import Future as Work
from typing import TYPE_CHECKING, Any

from amltk._notes import safe_repr
from amltk.exceptions import DependencyError, FutureCancelledError
from amltk.scheduling._nested import CONTAINERS, find, replaced
from amltk.scheduling.executors.execution_info import ExecutionInfo
from amltk.scheduling.executors.light_future import LightFuture
from amltk.scheduling.executors.remote_result import RemoteResult
from amltk.scheduling.executors.shared import SHARED
from amltk.scheduling.future import FUTURES, DependentFuture, Future

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from amltk.scheduling.future import RunLink

_SETS: frozenset[type] = frozenset({set, frozenset})

_REMEDY = (
    "A future is computed first, and its result passed in its place, only if it was submitted in the same run: wait for"
    " this one, and pass its result"
)

SHOWN = 3
"""How many of the calls that one waits for are named."""

_result_of = asyncio.Future.result


def _result(future: Future[Any]) -> Any:
    """What takes the place of a future: its result, or a reference to one that has stayed on a worker."""
    result = _result_of(future)
    return result.argument if type(result) is RemoteResult else result


class Uncomputed(LightFuture[Any]):
    """Stands for the executor's future of a call that no executor is given, since it lacks a result that it needs."""

    execution_info: ExecutionInfo = ExecutionInfo()
    """It never began."""


class Dependencies:
    """Knows which call waits for which. On the loop's thread, except for `find` and `reason`.

    Owns the calls that wait. What it does takes time in proportion to the futures among arguments, each once.

    Attributes:
        looked_at: The types of arguments that are futures or shared objects, or may contain some; exactly these.
    """

    def __init__(self) -> None:
        self._foreign: frozenset[type] = frozenset(_foreign_types())
        self._wanted: frozenset[type] = FUTURES | SHARED | self._foreign | _SETS
        self.looked_at: frozenset[type] = self._wanted | CONTAINERS
        self._needed: dict[Future[Any], dict[Future[Any], None]] = {}  # by each call that waits: what has not ended
        self._dependants: dict[Future[Any], dict[Future[Any], None]] = {}  # the other way round
        self._on_ready: Callable[[Future[Any]], object]
        self._on_shared: Callable[[], object]

    @property
    def n_waiting(self) -> int:
        """How many calls wait for others. May be read from any thread."""
        return len(self._needed)

    def connect(self, on_ready: Callable[[Future[Any]], object], on_shared: Callable[[], object]) -> None:
        """Set the callbacks.

        Args:
            on_ready: Called with each call that no longer waits, in the order of submission.
            on_shared: Called when there are shared objects among the arguments of a call.
        """
        self._on_ready = on_ready
        self._on_shared = on_shared

    def find(self, args: tuple[Any, ...], kwargs: dict[str, Any], run: RunLink) -> list[Future[Any]]:
        """The futures among arguments: those themselves, and what is in lists, tuples and dicts, at any depth.

        Raises:
            ValueError: One of them is not of this run.
            TypeError: One is another library's, or is in a set.
        """
        found = find((args, kwargs), self._wanted)
        for value in found:
            kind = type(value)
            if kind in _SETS:
                _check_set(value)
            elif kind in SHARED:
                self._on_shared()
            elif kind not in FUTURES:
                raise TypeError(
                    f"an argument is a {kind.__module__}.{kind.__qualname__}, which is no future of this scheduler, so"
                    " that its result cannot be passed: wait for it and pass its result, or have this scheduler compute"
                    " it as well"
                )
            elif not value.is_of(run):
                raise ValueError(
                    f"the argument {safe_repr(value)} belongs to another scheduler, or to a run that is over. {_REMEDY}"
                )
        return [value for value in found if type(value) in FUTURES]

    def hold(self, future: Future[Any], needed: Iterable[Future[Any]]) -> None:
        """Let a call wait for these futures, which have not ended."""
        self._needed[future] = dict.fromkeys(needed)
        for other in self._needed[future]:
            self._dependants.setdefault(other, {})[future] = None

    def are_on(self, future: Future[Any]) -> bool:
        """Whether a call waits for this one."""
        return future in self._dependants

    def note_end(self, future: Future[Any]) -> None:
        """Note that a call has ended, and that its callbacks know it: calls go on that have waited for nothing else.

        They do so at once if there is no result: then they cannot be computed.
        """
        for dependency in future.dependencies:
            if isinstance(dependency, DependentFuture) and dependency.done():
                dependency.loosen()
        has_result = not future.cancelled() and future.exception() is None
        for dependant in self._dependants.pop(future, ()):
            needed = self._needed[dependant]
            del needed[future]
            if not has_result:
                self._withdraw(dependant, needed)
                needed.clear()
            if not needed:
                self._on_ready(dependant)

    def take(self, future: Future[Any]) -> bool:
        """Remove a call that waits. False if it did not wait."""
        needed = self._needed.pop(future, None)
        if needed is None:
            return False
        self._withdraw(future, needed)
        return True

    def reason(self, future: Future[Any]) -> str | None:
        """What a call waits for, in words; None if it waits for no other call. May be called from any thread."""
        needed = list(self._needed.get(future, ()))
        if not needed:
            return None
        more = ", …" if len(needed) > SHOWN else ""
        calls = "1 call" if len(needed) == 1 else f"{len(needed):,} calls"
        return f"waits for {calls}: {', '.join(other.label for other in needed[:SHOWN])}{more}"

    def _withdraw(self, dependant: Future[Any], needed: Iterable[Future[Any]]) -> None:
        for other in needed:
            dependants = self._dependants[other]
            del dependants[dependant]
            if not dependants:
                del self._dependants[other]


def has_failed(future: Future[Any]) -> bool:
    """Whether a call has ended without a result."""
    return future.done() and (future.cancelled() or future.exception() is not None)


def error_of(future: Future[Any]) -> DependencyError | None:
    """Why a call cannot be computed; None if it can. The first one among its arguments decides."""
    for needed in future.dependencies:
        if has_failed(needed):
            return _error_after(needed)
    return None


def _error_after(failed: Future[Any]) -> DependencyError:
    cause: BaseException | None
    if failed.cancelled():
        what, number = f"{failed.label}, which was cancelled", failed.number
        cause = FutureCancelledError(f"the call {failed.label} was cancelled")
    else:
        cause = failed.exception()
        if isinstance(cause, DependencyError) and failed.is_dependent:
            error = DependencyError(*cause.args, number=cause.number)
            error.__cause__ = cause.__cause__
            return error
        what, number = f"{failed.label}, which raised {safe_repr(cause)}", failed.number
    error = DependencyError(f"not computed, since it needs the result of the call {number}, {what}", number=number)
    error.__cause__ = cause
    return error


def with_results(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments with results in place of futures, which have them. Containers without any are not copied."""
    return replaced(args, FUTURES, _result), replaced(kwargs, FUTURES, _result)


def _check_set(values: Iterable[Any]) -> None:
    for kinds, what in ((FUTURES, "a future in it, whose result"), (SHARED, "a shared object in it, which")):
        if not kinds.isdisjoint(map(type, values)):
            raise TypeError(
                f"an argument is a set with {what} need not be hashable: put it in a list, a tuple or the values of a"
                " dict"
            )


def _foreign_types() -> Iterator[type]:
    """The types of other futures that this process knows by now."""
    for kind in (Work, asyncio.Future):
        yield from _with_subclasses(kind)
    distributed = sys.modules.get("distributed")
    if distributed is not None and hasattr(distributed, "Future"):
        yield distributed.Future


def _with_subclasses(kind: type[Any]) -> Iterator[type]:
    if kind not in FUTURES:
        yield kind
        subclasses: list[type[Any]] = kind.__subclasses__()
        for subclass in subclasses:
            yield from _with_subclasses(subclass)
