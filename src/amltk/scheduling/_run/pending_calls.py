"""The accounting of one run's submissions: what was accepted, and that each call ended exactly once."""

from __future__ import annotations

from itertools import count, islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future as Work

    from amltk.scheduling.future import Future


class PendingCalls:
    """Every submission that was accepted and has not ended.

    Invariant: `accepted == results + exceptions + cancelled + len(self)`, after every call.

    A submission is *pending* while the executor has it. It is *waiting* before that, if it was submitted from another
    thread or needs the results of others, and while plugins review the outcome of an attempt. Every operation takes
    constant time.

    Owns the numbers and the counts. Changed on the loop's thread only, but for `wait`, which the lock of `RunLifecycle`
    guards; may be read from any thread.

    Args:
        numbers: The numbers for accepted submissions.
    """

    __slots__ = ("_numbers", "_pending", "_waiting", "accepted", "cancelled", "exceptions", "results")

    def __init__(self, numbers: Iterator[int] | None = None) -> None:
        self._numbers: Iterator[int] = count() if numbers is None else numbers
        self._pending: dict[Work[Any], Future[Any]] = {}
        self._waiting: dict[Future[Any], None] = {}
        self.accepted: int = 0
        self.results: int = 0
        self.exceptions: int = 0
        self.cancelled: int = 0

    def __len__(self) -> int:
        return len(self._pending) + len(self._waiting)

    def __iter__(self) -> Iterator[Future[Any]]:
        """The futures that have not ended; a copy, so that they may end during the iteration."""
        yield from list(self._pending.values())
        yield from list(self._waiting)

    def behind(self, works: Iterable[Work[Any]]) -> list[Future[Any]]:
        """The pending futures for these futures of the executor; unknown ones are left out."""
        futures = (self._pending.get(work) for work in works)
        return [future for future in futures if future is not None and not future.done()]

    def oldest(self, n: int) -> list[Work[Any]]:
        """The executor's futures of the `n` oldest pending submissions."""
        return list(islice(self._pending, n))  # atomic: may be called from another thread

    def wait(self, future: Future[Any]) -> None:
        """Accept a submission that the executor does not have yet."""
        self._waiting[future] = None
        self.accepted += 1
        future.number = next(self._numbers)
        if future.task is not None:
            future.task.pending[future] = None

    def enter(self, work: Work[Any], future: Future[Any]) -> None:
        """Note that the executor has the submission. Accept it if it was not accepted before.

        Raises:
            ValueError: The executor returned the same future for two submissions, so that one of them could never end.
        """
        if self._pending.setdefault(work, future) is not future:
            raise ValueError(
                f"the executor returned the same future for two submissions, {work!r}: it must return a new one each"
                " time (Dask does with pure=False)"
            )
        future.work = work
        if self._waiting and future in self._waiting:
            del self._waiting[future]
            return
        self.accepted += 1
        future.number = next(self._numbers)
        if future.task is not None:
            future.task.pending[future] = None

    def of(self, work: Work[Any]) -> Future[Any] | None:
        """The pending future for a future of the executor; None if it has ended, or is unknown."""
        return self._pending.get(work)

    def has(self, future: Future[Any]) -> bool:
        """Whether an accepted submission has not ended."""
        return future in self._waiting or (future.work is not None and self._pending.get(future.work) is future)

    def exchange(self, future: Future[Any], work: Work[Any]) -> None:
        """Note that another future of the executor stands for a pending submission, which becomes the latest one."""
        assert future.work is not None
        del self._pending[future.work]
        self._pending[work] = future
        future.work = work

    def settle(self, work: Work[Any]) -> Future[Any] | None:
        """Remove the future whose compute ended. None if it had ended before, or is unknown.

        If its plugins are to review the outcome, it is waiting from now on, until `conclude`.
        """
        future = self._pending.pop(work, None)
        if future is None:
            return None
        if future.call is not None:
            self._waiting[future] = None
        elif future.task is not None:
            del future.task.pending[future]
        return future

    def conclude(self, future: Future[Any]) -> None:
        """Remove a future that plugins have reviewed."""
        del self._waiting[future]
        del future.task.pending[future]
