"""Forgets failures, so that the next session of an experiment computes these calls again. Nothing is rewritten."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amltk.journal.folder import Folder
from amltk.journal.kinds import OUTCOMES, Kind, Session
from amltk.journal.reader import Reader, open_log
from amltk.journal.session import this_session
from amltk.journal.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from amltk.journal.format import Record

_FAILURES = frozenset({Kind.EXCEPTION, Kind.LOST})
_ENDS = frozenset({*OUTCOMES, Kind.REQUEST})  # a request that is about a call cancels it


@dataclass(frozen=True, slots=True)
class Retried:
    """What `retry` has done.

    Attributes:
        calls: The calls that are computed again, by their numbers.
        answered: Those of them to whose failure callbacks have answered, such as by submitting another call: without
            the failure, what came after it may be done in another way.
    """

    calls: list[int]
    answered: list[int]


@dataclass(slots=True)
class _Known:
    """What is known after some records.

    Attributes:
        ends: Of each call that has ended, the number of its last record that says so, and whether it has failed.
        by: The numbers of the inputs that callbacks have answered.
        void: The ranges of records that are left out.
    """

    ends: dict[int, tuple[int, bool]] = field(default_factory=dict)
    by: set[int] = field(default_factory=set)
    void: list[tuple[int, int]] = field(default_factory=list)

    def note(self, record: Record) -> None:
        kind = record.kind
        if kind == Kind.SESSION:
            self.void += record.head.get("void", ())
        elif kind in _ENDS and record.call is not None:
            self.ends[record.call] = record.number, kind in _FAILURES
        elif kind in {Kind.SUBMISSION, Kind.NOTE}:
            self.by.add(record.head.get("by", 0))

    def is_failed(self, call: int) -> bool:
        number, failed = self.ends.get(call, (0, False))
        return failed and not any(first <= number <= last for first, last in self.void)


def retry(folder: str | os.PathLike[str], calls: Iterable[int] | None = None) -> Retried:
    """Forget failures: started again, the program computes these calls once more, as their next attempt.

    Only the last failure of a call is forgotten; those that a `Retry` had answered stay. What has another outcome stays
    as it is. The program goes on as if the forgotten calls had been pending ever since. Where its callbacks had
    answered a failure, for example by submitting another call, they may do something else from there on: this is no
    error. As after `on_mismatch="branch"`, the recorded results of equal calls are used.

    Args:
        folder: The folder of the journal.
        calls: The numbers of the calls; None for all that have failed.

    Raises:
        ValueError: One of the calls has not failed.
        JournalLockedError: A process uses the journal.
        JournalDamagedError: It is damaged.
        JournalError: There is no journal, or it cannot be read or written.
    """
    where = Folder(folder)
    os.close(open_log(where, os.O_RDWR))
    with Writer(where) as writer:
        known = _Known()
        for record in Reader(where).records():
            known.note(record)
        wanted = sorted(filter(known.is_failed, known.ends) if calls is None else set(calls))
        for call in wanted:
            if not known.is_failed(call):
                raise ValueError(f"call {call} of the journal {folder} has not failed: give calls that have")
        if wanted:
            numbers = [known.ends[call][0] for call in wanted]
            writer.add(Kind.SESSION, _session(wanted, numbers))
    return Retried(wanted, [call for call in wanted if known.ends[call][0] in known.by])


def _session(calls: list[int], numbers: list[int]) -> Session:
    session = this_session()
    session["void"] = [(number, number) for number in sorted(numbers)]
    session["retried"] = calls
    return session
