"""One call, according to the records about it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from amltk._checks import as_real
from amltk.journal.kinds import Kind

if TYPE_CHECKING:
    from amltk.journal.format import Record

PENDING = "pending"
CANCELLED = "cancelled"

STATES: dict[int, str] = {
    Kind.RESULT: "result",
    Kind.EXCEPTION: "exception",
    Kind.CANCELLED: CANCELLED,
    Kind.LOST: "lost",
    Kind.REQUEST: CANCELLED,
}
"""The state of a call after a record of each kind that ends it. A request that is about a call is its cancellation."""

FAILED = frozenset({"exception", "lost"})
"""The states of calls that have failed."""


def can_end(state: str, kind: int) -> bool:
    """Whether a record of a kind in `STATES` changes the state of a call.

    What arrives together is recorded before it is handled: of an outcome and a cancellation from outside of the
    callbacks, the first one counts.
    """
    return state != CANCELLED and (kind != Kind.REQUEST or state == PENDING)


@dataclass(slots=True)
class Call:
    """A call of an experiment.

    Attributes:
        number: Its number, in the order of submission.
        task: The name of its task.
        arguments: Its arguments, as a short text.
        state: `"pending"`, `"result"`, `"exception"`, `"cancelled"` or `"lost"`, with its worker.
        attempt: How often it had been begun before.
        submitted: When it was submitted, in seconds since the epoch.
        began: When a worker began it; None if it is not known.
        ended: When its end was recorded; None if it has none.
        duration: How long it was computed, in seconds; None if it is not known.
        host: The name of the worker's machine; None if it is not known.
        pid: The worker's process; None if it is not known.
        result: What it returned, if that is a number; None otherwise.
        error: The name of the exception's type; None if there was none.
        message: The text of the exception.
        cpu: How many seconds of CPU time its worker process has used for it; None if it is not known.
        memory: The most memory that the worker process had meanwhile, in bytes; None if it is not known.
    """

    number: int
    task: str = ""
    arguments: str = ""
    state: str = PENDING
    attempt: int = 0
    submitted: float | None = None
    began: float | None = None
    ended: float | None = None
    duration: float | None = None
    host: str | None = None
    pid: int | None = None
    result: float | None = None
    error: str | None = None
    message: str | None = None
    cpu: float | None = None
    memory: int | None = None

    @classmethod
    def submitted_by(cls, record: Record) -> Call:
        """The call as it is after its submission."""
        head = record.head
        return cls(
            -1 if record.call is None else record.call,
            _text(head.get("task")) or "",
            _text(head.get("arguments")) or "",
            attempt=head.get("attempt", 0),
            submitted=record.time,
        )

    def retried(self) -> Call:
        """The call as it is when its failure is forgotten, before it is computed again."""
        return Call(self.number, self.task, self.arguments, attempt=self.attempt, submitted=self.submitted)

    def end(self, record: Record) -> None:
        """Take over how it ended."""
        head = record.head
        self.state, self.ended = STATES[record.kind], record.time
        self.began, self.duration = head.get("began"), head.get("duration")
        self.cpu, self.memory = as_real(head.get("cpu")), head.get("memory") or None
        self.host, self.pid = _text(head.get("host")), head.get("pid")
        self.result = as_real(head.get("number"))
        self.error, self.message = _text(head.get("type")), _text(head.get("message"))


def _text(text: str | None) -> str | None:
    """A text that every file takes: some that Python has cannot be written, such as that of a broken file name."""
    return text if text is None or text.isascii() else text.encode("utf-8", "backslashreplace").decode()


FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Call))
"""The columns of tables of calls."""

TIMES: tuple[str, ...] = ("submitted", "began", "ended")
"""Those that are times."""
