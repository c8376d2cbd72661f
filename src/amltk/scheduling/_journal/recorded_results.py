"""Results of recorded calls that a changed program may still ask for."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from amltk.exceptions import JournalError
from amltk.journal.kinds import Kind
from amltk.scheduling._journal.equality import are_same
from amltk.scheduling._journal.values import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from amltk.journal.format import Record

    Key = tuple[str, bytes]
    """The name of the task, and the pickle of the arguments."""


LARGEST = 1 << 16
"""Larger pickles of arguments are only compared byte by byte."""


class RecordedResults:
    """Gives each recorded result once: to the call of its number, or to a later one of the same task and arguments.

    Attributes:
        calls: The results by calls.
    """

    def __init__(self) -> None:
        self._by_number: dict[int, bytes] = {}
        self.calls: dict[Key, deque[bytes]] = {}
        self._alike: dict[Key, list[Key]] = {}  # by the pickle's bytes in order: those of equal sets have the same ones

    def add(self, records: Iterable[Record], value: Callable[[Record], bytes | None]) -> None:
        """Add the results that are among these records; `value` reads a record's value."""
        submitted: dict[int, Key] = {}
        for record in records:
            if record.call is None:
                continue
            if record.kind == Kind.SUBMISSION:
                submitted[record.call] = record.head.get("task", ""), value(record) or b""
            elif record.kind == Kind.RESULT and (result := value(record)) is not None:
                key = submitted.get(record.call)
                if key is None:  # submitted before the difference
                    self._by_number[record.call] = result
                else:
                    self.calls.setdefault(key, deque()).append(result)
        self._alike.clear()

    def of_number(self, number: int) -> bytes | None:
        """Take the result of the call of this number; None if there is none."""
        return self._by_number.pop(number, None)

    def of_call(self, task: str, arguments: bytes, given: Any) -> bytes | None:
        """Take a result of such a submission; None if there is none.

        Args:
            task: The name of the task.
            arguments: The pickle of the arguments.
            given: The arguments.
        """
        results = self.calls.get((task, arguments)) or next(self._of_equal(task, arguments, given), None)
        return results.popleft() if results else None

    def _of_equal(self, task: str, arguments: bytes, given: Any) -> Iterator[deque[bytes]]:
        """The results of calls with equal arguments whose pickles differ: those of a set do in each process."""
        if len(arguments) > LARGEST:
            return
        if not self._alike:
            for key in self.calls:
                if len(key[1]) <= LARGEST:
                    self._alike.setdefault((key[0], bytes(sorted(key[1]))), []).append(key)
        for key in self._alike.get((task, bytes(sorted(arguments))), ()):
            try:
                recorded = load(key[1], lambda: f"what was submitted to {task}")
            except JournalError:
                continue  # its types are not there any more
            if self.calls[key] and are_same(recorded, given):
                yield self.calls[key]
