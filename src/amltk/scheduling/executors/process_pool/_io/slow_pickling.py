"""Pickles and unpickles what may take long, so that the threads that make turns are not held up.

Objects may run users' code when they are pickled and unpickled. Were that done in a turn, a loop would handle no signal
and no timeout meanwhile. So it is done here, unless it has been quick for the same function before: changing threads
takes longer than pickling a number.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors.process_pool._io.job_thread import JobThread
from amltk.scheduling.executors.process_pool._state.dispatcher import BEING_PACKED
from amltk.scheduling.executors.process_pool._state.outcomes import Unpickled, tell, unpickle

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.executors.process_pool._io.packer import Question
    from amltk.scheduling.executors.process_pool._io.worker_io import WorkerIO
    from amltk.scheduling.executors.process_pool._state.outcomes import Outcome
    from amltk.scheduling.executors.process_pool._state.protocol import Frame
    from amltk.scheduling.executors.process_pool.future import PoolFuture
    from amltk.scheduling.executors.process_pool.limits import CallLimits


class _Draft:
    """A call while it is being pickled: the call itself is sent as soon as it has a payload."""

    def __init__(self, call: PoolFuture) -> None:
        self.fn: Any = call.fn
        self.args: tuple[Any, ...] = call.args
        self.kwargs: dict[str, Any] = call.kwargs
        self.limits: CallLimits | None = call.limits
        self.payload: Any = None


class SlowPickling:
    """See the module's docstring. One thread pickles, and another one unpickles.

    Args:
        io: The pool's I/O, which sends what is pickled, and has the outcomes.
        lock: The pool's lock of the level `STATE`.
        wake: Has a turn made soon. May be called from any thread.
        on_error: Called with what a callback of a future has raised that must not be lost, such as `SystemExit`.

    Attributes:
        is_late: Whether nothing waits for outcomes any more: they are delivered here.
    """

    def __init__(
        self, io: WorkerIO, lock: Any, *, wake: Callable[[], None], on_error: Callable[[BaseException], None]
    ) -> None:
        self.is_late: bool = False
        self._io = io
        self._lock = lock
        self._wake = wake
        self._unpickling = 0  # outcomes that are being unpickled, or wait for it
        self._packer_thread = JobThread("amltk-pickling", lock, on_error)
        self._unpickler_thread = JobThread("amltk-unpickling", lock, on_error)

    # ------------------------------------------------------------------ these require the lock

    def pack(self, calls: list[PoolFuture]) -> None:
        """Pickle calls, from `start` on."""
        for call in calls:
            call.payload = BEING_PACKED
        self._packer_thread.add(partial(self._pack, calls))

    def take_over(self) -> None:
        """Take what may take long of that which has come from workers, from `start` on."""
        io = self._io
        if io.questions:
            questions, io.questions = io.questions, []
            self._packer_thread.add(partial(self._answer, questions))
        if io.unknown_outcomes:
            outcomes, io.unknown_outcomes = io.unknown_outcomes, []
            self._unpickling += len(outcomes)
            self._unpickler_thread.add(partial(self._unpickle, outcomes))

    def has_outcomes(self) -> bool:
        """Whether outcomes are being unpickled that are waited for."""
        return bool(self._io.unknown_outcomes or (self._unpickling and not self.is_late))

    # ------------------------------------------------------------------ these must not be called with the lock

    def start(self) -> None:
        """Begin to do what was added."""
        self._packer_thread.start()
        self._unpickler_thread.start()

    def join(self) -> None:
        """Wait until everything is done, unless it is too late. Not for threads that do it."""
        if not self.is_late:
            self._packer_thread.join()
            self._unpickler_thread.join()

    def threads(self) -> list[int | None]:
        """The threads that do it; None for one that there is not."""
        return [self._packer_thread.ident, self._unpickler_thread.ident]

    def disown(self, lock: Any) -> None:
        """Forget everything, in a forked copy of the process."""
        self._lock = lock
        self._unpickling = 0
        self._packer_thread.disown(lock)
        self._unpickler_thread.disown(lock)

    # ------------------------------------------------------------------ the jobs

    def _pack(self, calls: list[PoolFuture]) -> None:
        packer = self._io.packer
        for call in calls:
            began = time.monotonic()
            draft = _Draft(call)
            problems = packer.pack((draft,))
            packer.pace.note(draft.fn, time.monotonic() - began)  # before the call is sent, and ends
            with self._lock:
                if not call.dropped:  # by a cancellation
                    call.payload = draft.payload
                    for _, problem in problems:
                        self._io.end(call, problem)
            self._wake()

    def _answer(self, questions: list[Question]) -> None:
        answers = self._io.packer.find_answers(questions)
        with self._lock:
            self._io.send_answers(answers)

    def _unpickle(self, outcomes: list[tuple[PoolFuture, Frame]]) -> None:
        for call, frame in outcomes:
            fn, began = call.fn, time.monotonic()
            try:
                outcome: Outcome = (call, frame, Unpickled(*unpickle(frame, call)))
            except BaseException as error:  # noqa: BLE001 - this is the call's outcome
                outcome = (call, None, error)
            self._io.unpickling_pace.note(fn, time.monotonic() - began)
            with self._lock:
                self._unpickling -= 1
                is_late = self.is_late
                if not is_late:
                    self._io.outcomes.append(outcome)
            if is_late:
                tell([outcome])
            else:
                self._wake()
            del outcome  # no live frame keeps a result alive
