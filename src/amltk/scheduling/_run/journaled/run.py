"""A run whose inputs are recorded, and that begins with those of earlier sessions."""

from __future__ import annotations

import inspect
import itertools
import math
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from amltk._process import clock
from amltk._shield import shielded
from amltk.exceptions import JournalError
from amltk.journal.kinds import Kind
from amltk.scheduling._journal.action import Action
from amltk.scheduling._journal.inbox import JournaledInbox
from amltk.scheduling._journal.values import dump, load
from amltk.scheduling._run.journaled.awaiting import JournaledTurns
from amltk.scheduling._run.journaled.end_requests import JournaledEndRequests
from amltk.scheduling._run.journaled.from_outside import FromOutside
from amltk.scheduling._run.journaled.input_recorder import InputRecorder
from amltk.scheduling._run.journaled.parts import (
    JournaledSubmissions,
    JournaledTimers,
    check_in_callback,
)
from amltk.scheduling._run.journaled.world import JOB_END, job_end
from amltk.scheduling._run.run import Parts, Run
from amltk.scheduling.events import callback_name
from amltk.scheduling.executors.registry import workers_of
from amltk.scheduling.exit_state import ExitState

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Sequence

    from amltk.scheduling._admission.pools import Pools
    from amltk.scheduling._journal.run_journal import RunJournal
    from amltk.scheduling._loop.refresh import View
    from amltk.scheduling._loop.timers import Timer
    from amltk.scheduling._run.policy import RunOptions
    from amltk.scheduling.call import Call, Heard
    from amltk.scheduling.events import Channel, Emitter
    from amltk.scheduling.executors.adapter import ExecutorAdapter
    from amltk.scheduling.future import Future, Observer

R = TypeVar("R")

Code = ExitState.Code

TOLERANCE = 1e-3
"""By how many seconds recorded times may be wrong: they are seconds since the epoch, which are rounded."""


class JournaledRun(Run):
    """A run with a journal.

    Args:
        emitter: As in `Run`.
        backend: As in `Run`.
        options: As in `Run`.
        view: As in `Run`.
        journal: The journal.
        tasks: The scheduler's tasks, of a layer above; it may grow.
        observers: As in `Run`.
        pools: As in `Run`.
    """

    is_recorded = True

    def __init__(
        self,
        emitter: Emitter,
        backend: ExecutorAdapter,
        options: RunOptions,
        view: View | None,
        *,
        journal: RunJournal,
        tasks: Sequence[Any],
        observers: Sequence[Observer] = (),
        pools: Pools | None = None,
    ) -> None:
        self.journal: RunJournal = journal
        self._recorder = recorder = InputRecorder(journal, FromOutside(journal, emitter, tasks), tasks)
        self._questions = 0  # by callbacks for `running`, since the last input
        self._asked_in = -1
        self._suspension: asyncio.TimerHandle | None = None
        self._turns = turns = JournaledTurns(self._coroutine_of, recorder.refuse, recorder.is_recording)
        parts = Parts(
            turns=lambda: turns,
            inbox=lambda loop, turns: JournaledInbox(loop, turns, journal),
            end_requests=partial(JournaledEndRequests, recorder),
            submissions=partial(JournaledSubmissions, recorder),
            timers=partial(JournaledTimers, recorder),
        )
        super().__init__(
            emitter, backend, options, view, numbers=itertools.count(), observers=observers, pools=pools, parts=parts
        )
        inbox = self._inbox
        assert isinstance(inbox, JournaledInbox)
        self.tell = self._tell
        self.announce_end = self._announce_end
        inbox.follow(recorder, recorder.replayer.replay_next)
        recorder.connect(self, inbox)

    @property
    def n_workers(self) -> int | None:
        """How many calls the executor can compute at a time right now; None if unknown."""
        return workers_of(self._backend.executor)

    def _coroutine_of(self, task: asyncio.Task[Any]) -> Any:
        return self._delivery.coroutine_of(task)

    def is_of_the_end(self, error: BaseException) -> bool:
        """Whether a call ended because the session does: by Ctrl-C on the loop's thread, or with a broken executor."""
        if isinstance(error, BrokenExecutor):
            return self._backend.is_broken()
        return self._backend.is_in_loop and isinstance(error, KeyboardInterrupt)

    def has_nothing_to_do(self) -> bool:
        """Whether the run may end as exhausted."""
        return self._options.end_on_empty and not self.pending_calls and not self._delivery.awaiting

    def cuts_off(self) -> bool:
        """Whether the run is ending without waiting for what is pending."""
        return self.lifecycle.is_ending and not self._options.wait

    def is_up_at(self, counted: float) -> bool:
        """Whether the time is up when so many seconds have counted."""
        timeout = self._options.timeout
        return timeout is not None and counted + TOLERANCE >= timeout

    # ------------------------------------------------------------------ the timeout

    def _start_timeout(self) -> None:
        self.journal.awaits_worker = (
            self._options.timeout_from == "first-worker" and self._backend.capabilities.workers_come_later
        )
        self.journal.attach(self.loop)
        self._backend.keep_pickles()
        submissions = self.submissions
        assert isinstance(submissions, JournaledSubmissions)
        self._recorder.on_recorded = self._backend.adopt_calls(
            self.journal.folder.jobs, submissions.identify, submissions.ended_among
        )
        self._await_end_of_job()
        if not self.journal.replaying:
            self.start_timeout()

    def start_timeout(self) -> None:
        """Begin to count the time, of which earlier sessions have used some; or wait for a worker, if any is left."""
        if self.time_left() > 0:
            super()._start_timeout()
        else:
            self._count_time()

    def time_left(self) -> float:
        """As in `Run`; infinite in a replay, in which no time passes."""
        if self.deadline is None and not self.journal.replaying:
            return super().time_left() - self.journal.counted
        return math.inf if self.deadline is None else super().time_left()

    def _count_time(self) -> None:
        if self.journal.awaits_worker:
            self.journal.note_worker()
        if self._options.timeout is None or self.lifecycle.is_ending:
            return
        self.deadline = self.loop.time() + self._options.timeout - self.journal.counted
        requests = self.end_requests
        assert isinstance(requests, JournaledEndRequests)
        self._timeout = self.loop.call_at(self.deadline, self._inbox.put_and_wake, requests.time_is_up)

    def _await_end_of_job(self) -> None:
        """Suspend the run before the end of the batch job that this process runs in."""
        before, end = self.journal.suspend_before, job_end()
        if before is not None and end is not None:
            delay = max(0.0, end - before - clock.now())
            self._suspension = self.loop.call_later(delay, self.end_requests.leave, f"{JOB_END} is near: suspended")

    @shielded
    def running(self) -> bool:
        """As in `Run`. That a callback has noticed the end of the time is recorded."""
        journal = self.journal
        if not journal.recording:
            return super().running()
        if (journal.replaying or self.deadline is not None) and self._is_question() and self._notices_timeout():
            self.end_requests.request(Code.TIMEOUT)
        return self.lifecycle.running

    def _is_question(self) -> bool:
        """Whether a callback asks while the run accepts work, and something depends on how often that was."""
        journal = self.journal
        if journal.replaying and not journal.playback.overview.noticed:
            return False
        return self.lifecycle.running and self._recorder.is_in_callback()

    def _notices_timeout(self) -> bool:
        journal = self.journal
        if self._asked_in != journal.current:
            self._asked_in, self._questions = journal.current, 0
        self._questions += 1
        if journal.replaying:
            question, counted = journal.playback.overview.noticed.get(journal.current, (0, 0.0))
            return question == self._questions and self.is_up_at(counted)
        return self.deadline is not None and self.loop.time() >= self.deadline

    @property
    def questions(self) -> int:
        """How often callbacks have asked whether the run accepts work, since the last input."""
        return self._questions

    # ------------------------------------------------------------------ for the scheduler

    def call_later(self, delay: float, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Timer:
        """As in `Run`, from callbacks only."""
        check_in_callback(self._recorder, f"call {callback_name(fn)} later")
        return super().call_later(delay, fn, args, kwargs)

    def once(
        self,
        fn: Callable[..., R],
        args: tuple[Any, ...],
        save: Callable[[R], Any] | None,
        restore: Callable[[Any], R] | None,
    ) -> R:
        """Carry out `Scheduler.once`."""
        name = callback_name(fn)
        if not self.journal.recording:
            return fn(*args)
        is_coroutine = inspect.iscoroutinefunction(fn)
        if is_coroutine or self._recorder.is_outside():  # else a callback or a plugin does it
            check_in_callback(self._recorder, f"call once({name})")
        if is_coroutine:
            async_fn = cast("Callable[..., Coroutine[Any, Any, Any]]", fn)
            return cast("R", self._recorder.foreign.wait_for(name, partial(async_fn, *args), save, restore))
        return self._once(fn, args, name, save, restore)

    def _once(
        self,
        fn: Callable[..., R],
        args: tuple[Any, ...],
        name: str,
        save: Callable[[R], Any] | None,
        restore: Callable[[Any], R] | None,
    ) -> R:
        journal = self.journal
        if journal.replaying:
            record = self._recorder.find(Action(Kind.NOTE, None, {"task": name}, None, None, lambda: f"once({name})"))
            if record is not None:
                value = load(journal.playback.value(record), lambda: f"the value of once({name})")
                known: R = value if restore is None else restore(value)
                return known
        made = fn(*args)
        saved = dump(made if save is None else save(made), lambda: f"the value of once({name})")
        journal.add(Action(Kind.NOTE, None, {"task": name}, saved, None, lambda: f"once({name})"))
        if not journal.replaying:
            journal.flush()  # a call that is made once must not be made again because of a crash
        return made

    @shielded
    def dispatch(self, channel: Channel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """As in `Run`; from outside of callbacks and plugins, as an input."""
        if self.journal.recording and self._recorder.is_outside():
            self._recorder.from_outside.emit(channel, args, kwargs)
        else:
            super().dispatch(channel, args, kwargs)

    def _tell_at_once(self, heard: Heard) -> None:
        if self.journal.recording:
            self.journal.tell(*self._recorder.write_heard(heard), self.tell_heard, heard)
        else:
            super()._tell_at_once(heard)

    def check_offer(self, call: Call) -> Future[Any] | None:
        """As in `Run`; from outside of callbacks and plugins, as an input."""
        super().check_offer(call)
        if not self.journal.recording or not self._recorder.is_outside():
            return None
        if call.kept:
            check_in_callback(self._recorder, f"submit a call of {call.task.name} that a plugin has kept")
        submissions = self.submissions
        assert isinstance(submissions, JournaledSubmissions)
        return submissions.submit_from_outside(call.task, call.task.function, *call.given)

    def check_change(self, what: str) -> None:
        """Raise unless this is a callback or a plugin, since nothing else would do this again at a replay."""
        if self._recorder.is_outside():
            check_in_callback(self._recorder, what)

    def hold(self, on: bool) -> None:
        """As in `Run`."""
        self._turns.hold(on)

    # ------------------------------------------------------------------ the end

    def _release(self) -> None:
        if self._suspension is not None:
            self._suspension.cancel()
        try:
            self._recorder.finish()
        except JournalError as error:
            self.lifecycle.keep(error, raises=True)
        super()._release()
