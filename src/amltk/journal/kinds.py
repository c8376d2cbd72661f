"""The kinds of records that a run writes, and the keys of their heads.

Every key may be absent, and there may be others: readers skip the kinds and the keys that they do not know.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypedDict


class Kind(IntEnum):
    """What a record is about. The numbers stand in journals, so they never change."""

    HEADER = 0
    """The first record, of the journal itself; its head is a `Header`."""
    SESSION = 1
    """A program began to use the journal; its head is a `Session`."""
    SUBMISSION = 2
    """A call was submitted, or is computed once more; its head is a `Submission`."""
    RESULT = 3
    """A call returned. The value is the pickle of what it returned; the head of this and of the other endings is an
    `Outcome`."""
    EXCEPTION = 4
    """A call raised. The value is the pickle of the exception."""
    CANCELLED = 5
    """A call was cancelled."""
    LOST = 6
    """The worker of a call was lost."""
    TIMER = 7
    """A timer fired."""
    MESSAGE = 8
    """A call sent a message. The value is the pickle of the message."""
    WAKEUP = 9
    """What an `async def` callback awaited by `once` has ended. The value is the pickle of what came of it."""
    STOP = 10
    """Something asked the run to stop."""
    NOTE = 11
    """A value that the program noted, for one that is made once. The value is its pickle."""
    SUSPEND = 12
    """The session ended, and the experiment did not."""
    FINISH = 13
    """The run ended; its head is a `Finish`."""
    STEP = 14
    """The run went on with something that it had put off itself; its head says with what."""
    REQUEST = 15
    """Something outside of the callbacks, such as another thread, submitted or cancelled a call, or emitted an event:
    without `asks` in its head it is a cancellation. The value is the pickle of the arguments."""
    ALIVE = 16
    """Nothing has happened for a while, and the program was alive."""
    REFUSAL = 17
    """The executor refused what a callback submitted: its `submit` raised. The head is a `Submission`, the value the
    pickle of the exception."""

    WORKER = 18
    """A worker is up: from here on the time of this session counts for the timeout."""


OUTCOMES: tuple[Kind, ...] = (Kind.RESULT, Kind.EXCEPTION, Kind.CANCELLED, Kind.LOST)
"""The kinds of records that end a call."""


class Header(TypedDict, total=False):
    """The head of the first record.

    Attributes:
        format: The version of the format: major, minor.
    """

    format: tuple[int, int]


class Session(TypedDict, total=False):
    """The head of a session.

    Attributes:
        program: The program and its arguments.
        host: The name of the machine.
        pid: The process.
        started: When the process was started, in seconds since the epoch.
        python: The version of Python.
        amltk: The version of this package.
        seed: The seed of `scheduler.random`; only in the first session.
        void: Ranges of records, each by its first and its last number, that this session has left out: what had ended
            the run, where the program now goes further, or what is not done any more.
        awaits_worker: Whether the time counts for the timeout from the first worker on.
        retried: The numbers of calls whose failures `amltk retry` has left out by this record: there was no program.
    """

    program: list[str]
    host: str
    pid: int
    started: float
    python: str
    amltk: str
    seed: int
    void: list[tuple[int, int]]
    awaits_worker: bool
    retried: list[int]


class Submission(TypedDict, total=False):
    """The head of a submission.

    Attributes:
        task: The name of the task, or of the function if it has no task.
        arguments: The arguments as a short text.
        digest: A digest of the arguments, in hexadecimal digits.
        attempt: How often the call was begun before.
        place: The number of its folder in `calls/`, if it has one.
        resources: What it asks for, by the names of the resources: amounts as they were given.
        after: The numbers of the calls whose results it needs, if it needs any.
        by: The number of the record of the input that was being handled when a callback submitted it. Without it,
            the record is not a new submission: a call of an earlier session is computed again.
    """

    task: str
    arguments: str
    digest: str
    attempt: int
    place: int
    resources: dict[str, float | str]
    after: list[int]
    by: int


class Outcome(TypedDict, total=False):
    """The head of a result, an exception, a cancellation or a loss.

    Attributes:
        began: When a worker began the call, in seconds since the epoch; to the microsecond.
        duration: How long it was computed, in seconds; to the nanosecond.
        cpu: How many seconds of CPU time its worker process has used for it.
        memory: The most memory that the worker process had meanwhile, in bytes; 0 if that is not known.
        host: The name of the worker's machine.
        pid: The worker's process.
        devices: The individual things that it had, such as `gpu 0`.
        number: What the call returned, if that is a number.
        numbers: The numbers of the dict that it returned, by their keys.
        returned: What it returned as a short text, if that is neither a number nor None.
        type: The name of the exception's type.
        message: The text of the exception.
        traceback: The traceback of the worker, as text.
    """

    began: float
    duration: float
    cpu: float
    memory: int
    host: str
    pid: int
    devices: list[str]
    number: float
    numbers: dict[str, float]
    returned: str
    type: str
    message: str
    traceback: str


class Finish(TypedDict, total=False):
    """The head of the end of a run.

    Attributes:
        code: The name of the exit state's code.
        reason: What the exit state says about it.
    """

    code: str
    reason: str
