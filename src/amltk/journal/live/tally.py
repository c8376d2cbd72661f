"""Totals over all calls of an experiment. Of a single call, fewer than a dozen bytes are kept."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from amltk.journal.history.call import FAILED, PENDING, STATES, can_end
from amltk.journal.kinds import Kind
from amltk.journal.live.buckets import Buckets
from amltk.journal.live.failures import AllFailures
from amltk.journal.live.pace import Pace
from amltk.journal.live.series import AllSeries, Point
from amltk.journal.live.text import real, writable
from amltk.journal.live.workers import Workers, worker_name

if TYPE_CHECKING:
    from amltk.journal.format import Record

MOST_TASKS = 200
"""How many tasks are counted separately; further ones are counted together."""

OTHER_TASKS = "other tasks"

MOST_SESSIONS = 100
"""How many of the last sessions are kept."""

_STEP = 4096
"""For how many further calls there is room after each enlargement."""

_NO_TASK = 0xFFFF

_SUBMISSION, _SESSION, _SUSPEND, _FINISH = map(int, (Kind.SUBMISSION, Kind.SESSION, Kind.SUSPEND, Kind.FINISH))
_STATES: dict[int, str] = {_SUBMISSION: PENDING, **{int(kind): state for kind, state in STATES.items()}}


@dataclass(slots=True)
class TaskTally:
    """The calls of one task.

    Attributes:
        name: Its name.
        counts: How many are in each state.
        computed: How many have been computed, with their times known.
        seconds: How long these took in total.
        longest: How long the longest took, in seconds.
    """

    name: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_STATES.values(), 0))
    computed: int = 0
    seconds: float = 0.0
    longest: float = 0.0

    @property
    def submitted(self) -> int:
        """How many there are."""
        return sum(self.counts.values())


@dataclass(slots=True)
class SessionTally:
    """A program that was started for the experiment.

    Attributes:
        began: When it began to record, in seconds since the epoch.
        program: The program and its arguments.
        host: The name of the machine.
        pid: The process.
        python: The version of Python.
    """

    began: float
    program: str
    host: str
    pid: int | None
    python: str


class Tally:
    """Totals over the records that were taken, in their order.

    Attributes:
        counts: How many calls are in each state.
        tasks: The tasks, in the order in which they came.
        failures: What failed.
        series: The numbers that calls returned.
        buckets: When calls ended, by state, and when each worker was busy, in seconds.
        workers: The workers.
        pace: How fast calls end.
        sessions: The last sessions.
        n_sessions: How many there were.
        state: The state of the experiment, as recorded: "new", "open", "suspended", "retried" or "finished".
        finish: The head of the record of the end or of the suspension.
        began: The time of the first session, in seconds since the epoch; None if there was none.
        latest: The time of the last record; None if there is none.
        records: How many records were taken.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = dict.fromkeys(_STATES.values(), 0)
        self.tasks: list[TaskTally] = []
        self.failures: AllFailures = AllFailures()
        self.series: AllSeries = AllSeries()
        self.buckets: Buckets = Buckets()
        self.workers: Workers = Workers()
        self.pace: Pace = Pace()
        self.sessions: list[SessionTally] = []
        self.n_sessions: int = 0
        self.state: str = "new"
        self.finish: dict[str, Any] = {}
        self.began: float | None = None
        self.latest: float | None = None
        self.records: int = 0
        self._task_ids: dict[str, int] = {}
        self._states = bytearray()  # by the number of the call: the kind of its latest record
        self._tasks_of = array("H")  # the same for its task
        self._submissions = array("Q")  # the same for where its latest submission is

    @property
    def submitted(self) -> int:
        """How many calls there are."""
        return sum(self.counts.values())

    @property
    def ended(self) -> int:
        """How many of them have ended."""
        return self.submitted - self.counts[PENDING]

    def alive(self, now: float) -> float:
        """For how many seconds programs have used the journal, if the last one still does."""
        return self.pace.alive + (0.0 if self.latest is None else max(0.0, now - self.latest))

    @property
    def reasons(self) -> list[str]:
        """Why the last session has ended, as recorded: different texts."""
        return list(dict.fromkeys(str(text) for key in ("code", "reason") if (text := self.finish.get(key))))

    @property
    def failed(self) -> int:
        """How many of them have failed."""
        return sum(self.counts[state] for state in FAILED)

    # ------------------------------------------------------------------ single calls

    def state_of(self, call: int) -> str | None:
        """The state of a call; None if there is none of this number."""
        return _STATES.get(self._states[call]) if 0 <= call < len(self._states) else None

    def task_of(self, call: int) -> str:
        """The name of the task of a call; empty if it is not known."""
        task = self._tasks_of[call] if 0 <= call < len(self._tasks_of) else _NO_TASK
        return "" if task == _NO_TASK else self.tasks[task].name

    def submission_of(self, call: int) -> int | None:
        """Where the record of the submission of a call begins; None if there is none."""
        offset = self._submissions[call] if 0 <= call < len(self._submissions) else 0
        return offset or None

    def pending(self, most: int) -> list[int]:
        """Calls that have not ended, the oldest first."""
        found: list[int] = []
        at = self._states.find(_SUBMISSION)
        while at >= 0 and len(found) < most:
            found.append(at)
            at = self._states.find(_SUBMISSION, at + 1)
        return found

    # ------------------------------------------------------------------ records

    def take(self, record: Record) -> None:
        """Take a record."""
        kind, call, time = record.kind, record.call, record.time
        self.records += 1
        self.latest = time
        if call is None:
            self._note(record)
            return
        if record.number and kind != _SESSION:
            self.pace.pass_to(time)
        if call > record.number or kind not in _STATES:  # a call cannot have a greater number than its record
            return
        if call >= len(self._states):
            self._grow(call)
        if kind == _SUBMISSION:
            self._submit(record, call)
        elif can_end(_STATES.get(self._states[call], PENDING), kind):
            self._end(record, call)

    def pass_over(self, record: Record) -> None:
        """Take a record that does not count, except for its time."""
        self.records += 1
        self.latest = record.time
        self.pace.pass_to(record.time)

    def _grow(self, call: int) -> None:
        n = call + _STEP - len(self._states)
        self._states.extend(bytes(n))
        self._tasks_of.extend([_NO_TASK] * n)
        self._submissions.extend([0] * n)

    def _submit(self, record: Record, call: int) -> None:
        self._change(call, _SUBMISSION, self._task_id(writable(record.head.get("task"))))
        self._submissions[call] = record.offset
        self.pace.submitted()

    def _task_id(self, name: str) -> int:
        task = self._task_ids.get(name)
        if task is None:
            if len(self.tasks) >= MOST_TASKS and name != OTHER_TASKS:
                return self._task_id(OTHER_TASKS)
            task = self._task_ids[name] = len(self.tasks)
            self.tasks.append(TaskTally(name))
        return task

    def _change(self, call: int, kind: int, task: int) -> None:
        """Change the state of a call."""
        before, of = self._states[call], self._tasks_of[call]
        if before:
            self.counts[_STATES[before]] -= 1
            self.tasks[of].counts[_STATES[before]] -= 1
        self._states[call], self._tasks_of[call] = kind, task
        self.counts[_STATES[kind]] += 1
        self.tasks[task].counts[_STATES[kind]] += 1

    def _end(self, record: Record, call: int) -> None:
        head, state, time = record.head, STATES[record.kind], record.time
        task = self._tasks_of[call]
        if task == _NO_TASK:
            task = self._task_id("")
        self._change(call, record.kind, task)
        self.pace.ended(time)
        failed = state in FAILED
        self.buckets.add("failed" if failed else state, time)
        self._compute(record, self.tasks[task], failed=failed)
        if failed:
            self.failures.take(record, state)
        elif (number := real(head.get("number"))) is not None:
            self.series.take(self.tasks[task].name, "", Point(time, number, call))
        elif isinstance(numbers := head.get("numbers"), dict):
            for key, value in numbers.items():
                if (number := real(value)) is not None:
                    self.series.take(self.tasks[task].name, writable(key), Point(time, number, call))

    def _compute(self, record: Record, task: TaskTally, *, failed: bool) -> None:
        """Note which worker computed it and for how long, if that is known."""
        head = record.head
        name = worker_name(writable(head.get("host")) or None, head.get("pid"))
        began, duration = real(head.get("began")), real(head.get("duration"))
        if not name:
            return
        seconds = max(0.0, duration or 0.0)
        ended = record.time if began is None else began + seconds
        worker = self.workers.take(name, ended, seconds, failed=failed)
        if began is None or duration is None:
            return
        task.computed += 1
        task.seconds += seconds
        task.longest = max(task.longest, seconds)
        self.buckets.spread(worker.row, began, began + seconds)

    def _note(self, record: Record) -> None:
        """Take a record that is not about a call: of sessions and their ends."""
        kind, head = record.kind, record.head
        if kind == _SESSION:
            if retried := head.get("retried"):
                self._retry(retried)
            else:
                self._begin(record)
            return
        if record.number:
            self.pace.pass_to(record.time)
        if kind == _SUSPEND:
            self.state, self.finish = "suspended", head
        elif kind == _FINISH:
            self.state, self.finish = "finished", head

    def _begin(self, record: Record) -> None:
        head = record.head
        self.state, self.finish = "open", {}
        self.n_sessions += 1
        self.began = self.began or record.time
        self.pace.begin_session(record.time)
        program = " ".join(map(writable, head.get("program") or ()))
        host, python = writable(head.get("host")), writable(head.get("python"))
        self.sessions.append(SessionTally(record.time, program, host, head.get("pid"), python))
        del self.sessions[:-MOST_SESSIONS]

    def _retry(self, calls: list[int]) -> None:
        self.state, self.finish = "retried", {}
        for call in calls:
            if self.state_of(call) is not None:
                self._change(call, _SUBMISSION, self._tasks_of[call])
