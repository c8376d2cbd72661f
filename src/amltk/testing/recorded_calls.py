"""The calls of a journal, as a `SimulatedExecutor` plays them: how long each took, and how it ended."""

from __future__ import annotations

import itertools
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk._labels import call_label
from amltk.exceptions import JournalUnsupportedError
from amltk.journal.history.call import STATES
from amltk.journal.kinds import Kind
from amltk.journal.reader import Reader, read_record
from amltk.scheduling._journal.values import load
from amltk.scheduling.events import callback_name
from amltk.scheduling.executors.remote.plain import dumps_by_name
from amltk.scheduling.plugins._support.keys.canonical import UnkeyedError, digest

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from amltk.journal.format import Record
    from amltk.types import Duration

_HAVE_OUTCOME = frozenset({Kind.RESULT, Kind.EXCEPTION, Kind.LOST})


class PlayedCall(NamedTuple):
    """A recorded outcome, in the place of the function that would be computed.

    Attributes:
        seconds: How long it took.
        result: What it returned.
        error: What it raised; None if it returned.
    """

    seconds: float
    result: Any
    error: BaseException | None


class _Ended(NamedTuple):
    """Where a recorded outcome is.

    Attributes:
        seconds: How long it took, or at most: from the submission to its end.
        is_measured: Whether that is what its worker measured.
        offset: Where its record begins.
        end: Where it ends.
    """

    seconds: float
    is_measured: bool
    offset: int
    end: int


class RecordedCalls:
    """The outcomes in a journal, found by the name of the function and its arguments.

    Args:
        folder: The folder of the journal.
        is_any_allowed: Whether calls for which it has no outcome are allowed.

    Raises:
        JournalError: It cannot be read, or an argument cannot be loaded; see the subclasses.
        JournalUnsupportedError: Its calls have sent messages, and only calls for which it has an outcome are allowed.

    Attributes:
        seed: The seed of the recorded run's `scheduler.random`; None if there is none.
        most_at_once: How many of its calls ran at a time, at most; at least 1.
    """

    def __init__(self, folder: str | os.PathLike[str], *, is_any_allowed: bool) -> None:
        self.seed: int | None = None
        self._is_any_allowed = is_any_allowed
        self._reader = Reader(folder)
        self._ended: dict[bytes, list[_Ended]] = {}
        self._taken: dict[bytes, int] = {}
        self._others: dict[bytes, str] = {}  # calls without an outcome, and why
        spans = self._read()
        self.most_at_once: int = _most_at_once(spans)

    def _read(self) -> list[tuple[float, float]]:
        """Go through all records; returns when calls began and ended."""
        submitted: dict[int, tuple[bytes, float]] = {}
        messengers: set[int] = set()
        spans = []
        for record in self._reader.records():
            if record.kind == Kind.SESSION:
                self.seed = record.head.get("seed", self.seed)
            elif record.call is None:
                continue
            elif record.kind == Kind.MESSAGE:
                self._check_silent(record)
                messengers.add(record.call)
            elif record.kind == Kind.SUBMISSION:
                submitted[record.call] = self._key_of(record), record.time
            elif record.kind in STATES and record.call in submitted:
                key, at = submitted.pop(record.call)
                if record.call in messengers:
                    self._others[key] = f"its call {record.call} has sent messages, which cannot be played"
                elif record.kind in _HAVE_OUTCOME:
                    ended = _ended(record, at)
                    self._ended.setdefault(key, []).append(ended)
                    began = record.head.get("began", at)
                    spans.append((began, began + ended.seconds))
                else:
                    self._others[key] = f"its call {record.call} was cancelled"
        self._others |= {key: f"its call {call} has not ended" for call, (key, _) in submitted.items()}
        for key, all_ended in self._ended.items():
            self._ended[key] = [ended for ended in all_ended if ended.is_measured] or all_ended
        return spans

    def _check_silent(self, record: Record) -> None:
        if not self._is_any_allowed:
            raise JournalUnsupportedError(
                f"call {record.call} of the journal {self._reader.folder} has sent messages by Comm, which cannot be"
                " played: a rule that acts on them would be judged as if there were none. Give from_journal a"
                " duration= and an outcome= for such calls; or record a run whose calls return what they would send"
            )

    def _key_of(self, record: Record) -> bytes:
        args, kwargs = load(
            self._reader.value(record), lambda: f"the arguments of call {record.call} in {self._reader.folder}"
        )
        return _key(record.head.get("task", ""), args, kwargs)

    def find(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Take the next recorded outcome of a call, the last one again if all are taken; `fn` if there is none.

        Raises:
            LookupError: There is none, and such calls are not allowed.
            JournalError: It cannot be loaded.
        """
        name = callback_name(fn)
        key = _key(name, args, kwargs)
        found = self._ended.get(key)
        if found is None:
            if self._is_any_allowed:
                return fn
            why = self._others.get(key, "it was not submitted")
            raise LookupError(
                f"the journal {self._reader.folder} has no outcome of {call_label(name, args, kwargs)}: {why}."
                " Propose what was proposed then, such as by the same seed, or give from_journal a duration= and an"
                " outcome= for such calls"
            )
        n = self._taken[key] = self._taken.get(key, 0) + 1
        return self._play(found[min(n, len(found)) - 1], name)

    def _play(self, ended: _Ended, name: str) -> PlayedCall:
        record = read_record(self._reader.folder, ended.offset, ended.end)
        outcome = load(self._reader.value(record), lambda: f"an outcome of {name} in {self._reader.folder}")
        is_result = record.kind == Kind.RESULT
        return PlayedCall(ended.seconds, outcome if is_result else None, None if is_result else outcome)


def played_duration(other: Duration | Callable[..., Duration]) -> Callable[..., Duration]:
    """How long a call takes: as recorded, or what `other` says."""

    def duration(fn: Any, *args: Any, **kwargs: Any) -> Duration:
        if isinstance(fn, PlayedCall):
            return fn.seconds
        return other(fn, *args, **kwargs) if callable(other) else other

    return duration


def played_outcome(other: Callable[..., Any] | None) -> Callable[..., Any]:
    """What a call returns or raises: as recorded, or what `other` does."""

    def outcome(fn: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(fn, PlayedCall):
            if fn.error is not None:
                raise fn.error
            return fn.result
        return None if other is None else other(fn, *args, **kwargs)

    return outcome


def _ended(record: Record, submitted: float) -> _Ended:
    measured: float | None = record.head.get("duration")
    seconds = record.time - submitted if measured is None else measured
    return _Ended(max(0.0, seconds), measured is not None, record.offset, record.end)


def _key(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """What equal calls have in common; of arguments without a canonical form, their pickles."""
    try:
        return digest((name, args, kwargs))
    except UnkeyedError:
        # Loaded once, as the recorded ones are: the pickle of an object also says which of its parts are the same one.
        return dumps_by_name(pickle.loads(dumps_by_name((name, args, sorted(kwargs.items())))))


def _most_at_once(spans: list[tuple[float, float]]) -> int:
    """How many of these spans of time have a moment in common."""
    steps = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    return max(itertools.accumulate((step for _, step in steps)), default=1)
