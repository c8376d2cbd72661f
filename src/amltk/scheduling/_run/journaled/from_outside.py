"""What is asked for from outside of the run's callbacks: by other threads, and by other tasks of its loop."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from amltk.exceptions import JournalUnsupportedError, SchedulerNotRunningError
from amltk.journal.kinds import Kind
from amltk.scheduling._journal.equality import are_same
from amltk.scheduling._journal.values import dump, load
from amltk.scheduling.call import PromisedCall
from amltk.scheduling.events import Channel, Event, callback_name
from amltk.scheduling.future import Future

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amltk.journal.format import Record
    from amltk.scheduling._journal.inbox import JournaledInbox
    from amltk.scheduling._journal.run_journal import RunJournal
    from amltk.scheduling._run.journaled.run import JournaledRun
    from amltk.scheduling.events import Emitter

    Arguments = tuple[tuple[Any, ...], dict[str, Any]]
    Task = Any  # a layer above

SUBMIT = "submit"
EMIT = "emit"


class Asked:
    """One thing that was asked for: that a call is submitted, or that an event is emitted.

    Attributes:
        what: Which of the two.
        of: The task, or the emitter and its event, by a name that is the same at every replay.
        value: The pickle of the arguments.
        given: The arguments.
        future: The future of the call; None for an event.
    """

    __slots__ = ("future", "given", "of", "value", "what")

    def __init__(self, what: str, of: str, value: bytes, given: Arguments, future: Future[Any] | None = None) -> None:
        self.what = what
        self.of = of
        self.value = value
        self.given = given
        self.future = future


class Unpaired:
    """Things that were asked for and have no counterpart yet. Of equal ones the first comes first."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], dict[bytes, deque[Asked]]] = {}

    def add(self, asked: Asked) -> None:
        """Add one."""
        self._kinds.setdefault((asked.what, asked.of), {}).setdefault(asked.value, deque()).append(asked)

    def take(self, asked: Asked) -> Asked | None:
        """Take the first one that asks for the same; None if there is none."""
        same_kind = self._kinds.get((asked.what, asked.of), {})
        value = asked.value
        if value not in same_kind:
            equal = (value for value, others in same_kind.items() if are_same(others[0].given, asked.given))
            if (value := next(equal, b"")) not in same_kind:
                return None
        found = same_kind[value].popleft()
        if not same_kind[value]:
            del same_kind[value]
        return found

    def clear(self) -> None:
        """Forget them."""
        self._kinds.clear()


class FromOutside:
    """Records what is asked for from outside as inputs, and pairs it with what is recorded.

    At a replay, a recorded request is handled at its place; the threads of the program run and ask again as well. So a
    request is paired with the first recorded one that is equal to it: the same task with equal arguments, or the same
    event. It is not done twice, and what has no counterpart is new. Either may come first: a request made during the
    replay waits for its record, and becomes an input when everything recorded was replayed.

    `submit` and `emit` may be called from any thread, everything else on the loop's thread.

    Args:
        journal: The journal.
        emitter: That of the scheduler's events.
        tasks: The scheduler's tasks, in the order in which they were made; it may grow.
    """

    def __init__(self, journal: RunJournal, emitter: Emitter, tasks: Sequence[Task]) -> None:
        self._journal = journal
        self._emitter = emitter
        self._tasks = tasks
        self._lock = threading.RLock()  # a signal handler may submit
        self._waits = journal.replaying  # what is asked for waits for its record
        self._waiting: dict[Asked, None] = {}  # in the order in which it came
        self._unrecorded = Unpaired()  # the same
        self._told = Unpaired()  # from the record, and not asked for again
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()  # of all calls that were asked for
        self._run: JournaledRun
        self._inbox: JournaledInbox

    def connect(self, run: JournaledRun, inbox: JournaledInbox) -> None:
        """Say whose inputs these are, once the run has its parts."""
        self._run, self._inbox = run, inbox

    # ------------------------------------------------------------------ from any thread

    def submit(self, future: Future[Any]) -> Future[Any]:
        """Have a call submitted. Returns its future, which is another one if its record was replayed already.

        Raises:
            JournalUnsupportedError: It is not the call of a task.
            JournalError: The arguments cannot be pickled.
            SchedulerNotRunningError: The end was requested.
        """
        if future.task is None:
            raise JournalUnsupportedError(
                f"cannot submit {callback_name(future.function)} from outside of the run's callbacks: with journal=,"
                " only calls of tasks can be, as a function cannot be recorded. Make it a task: scheduler.task(...)"
            )
        given = future.args, future.kwargs
        value = dump(given, lambda: f"what is submitted, {future.label},")
        asked = Asked(SUBMIT, self._name_of(future.task), value, given, future)
        with self._lock:
            if (told := self._told.take(asked)) is not None:
                assert told.future is not None
                return told.future
            self._futures.add(future)
            self._run.lifecycle.accept(lambda: f"submit {future.label}", lambda: self._put(asked))
        return future

    def emit(self, channel: Channel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Have an event emitted.

        Raises:
            JournalError: The arguments cannot be pickled.
        """
        given = args, kwargs
        value = dump(given, lambda: f"what is emitted as {channel.event}")
        asked = Asked(EMIT, self._name_of_channel(channel), value, given)
        with self._lock:
            if self._told.take(asked) is None:
                self._put(asked)

    def _put(self, asked: Asked) -> None:
        if self._waits:
            self._waiting[asked] = None
            self._unrecorded.add(asked)
        else:
            self._inbox.put_input(self.carry_out, asked)

    # ------------------------------------------------------------------ on the loop's thread

    @property
    def n_waiting(self) -> int:
        """How many requests there are whose record has not been replayed, or that have none."""
        return len(self._waiting)

    def write(self, asked: Asked) -> tuple[Kind, dict[str, Any], bytes, None]:
        """What to record of it."""
        return Kind.REQUEST, {"asks": asked.what, "of": asked.of}, asked.value, None

    def carry_out(self, asked: Asked) -> None:
        """Do what was asked for, as an input."""
        if asked.future is None:
            args, kwargs = asked.given
            self._run.tell(self._channel_of(asked.of), args, kwargs)
        elif asked.future.task.plugins:
            self._offer(asked.future)
        else:
            self._run.submissions.hand_over_accepted(asked.future, asked.future.args, asked.future.kwargs)

    def _offer(self, future: Future[Any]) -> None:
        """Pass a call through the plugins of its task. If they hold it back for good, its future is cancelled."""
        task = future.task
        if not self._run.lifecycle.running:
            self._give_up(future)
            return
        try:
            with task.scheduler.submission_lock:
                task.offer_again(PromisedCall(future, self._give_up))
        except Exception as error:  # noqa: BLE001 - reported, as no caller can catch it
            if not isinstance(error, SchedulerNotRunningError) or self._run.lifecycle.running:
                task.scheduler.report(error, f"submission of {task.name} by another thread")

    def _give_up(self, future: Future[Any]) -> None:
        future.call = None
        if not future.done():
            future.mark_cancelled()
            self._run.settlement.note_end(future)

    def of_record(self, record: Record) -> Asked | None:
        """What a record is about, to be carried out now; None if its task does not exist."""
        head, value = record.head, self._journal.playback.value(record) or b""
        what, of = head["asks"], head["of"]
        task = self._task_of(of) if what == SUBMIT else None
        if what == SUBMIT and task is None:
            return None
        given: Arguments = load(value, lambda: f"the arguments that were given to {of}")
        asked = Asked(what, of, value, given)
        with self._lock:
            live = self._unrecorded.take(asked)
            if live is not None:
                del self._waiting[live]
                return live
            if task is not None:
                asked.future = Future(
                    self._run.submissions.link, task, task.function, given[0], given[1], self._run.loop
                )
                self._futures.add(asked.future)
            self._told.add(asked)
        return asked

    def end_wait(self) -> None:
        """Everything recorded was replayed: the requests that are left are new."""
        with self._lock:
            self._waits = False
            self._inbox.put_before_others([(self.carry_out, asked) for asked in self._waiting])
            self._waiting.clear()
            self._unrecorded.clear()

    def close(self) -> None:
        """The run is over: cancel the futures of calls that were not submitted, as nothing else will end them."""
        with self._lock:
            futures = [future for future in self._futures if future.number < 0]
        for future in futures:
            self._give_up(future)

    # ------------------------------------------------------------------ names

    def _name_of(self, task: Task) -> str:
        namesakes = [other for other in self._tasks if other.name == task.name]
        n = next((n for n, other in enumerate(namesakes) if other is task), 0)
        return task.name if n == 0 else f"{task.name}#{n + 1}"

    def _task_of(self, name: str) -> Task | None:
        return next((task for task in self._tasks if self._name_of(task) == name), None)

    def _name_of_channel(self, channel: Channel) -> str:
        name = channel.event.name
        owner = next((task for task in self._tasks if _has(task, channel)), None)
        return f"@{name}" if owner is None else f"{self._name_of(owner)}@{name}"

    def _channel_of(self, name: str) -> Channel:
        owner, _, event = name.rpartition("@")
        emitter: Emitter | None = self._task_of(owner) if owner else self._emitter
        return Channel(Event(event)) if emitter is None else emitter.channel(Event(event))


def _has(emitter: Emitter, channel: Channel) -> bool:
    return channel.event in emitter.events and emitter.channel(channel.event) is channel
