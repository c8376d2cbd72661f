"""Results of recorded calls that a changed program may still ask for."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from amltk.journal.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from amltk.journal.format import Record

    Key = tuple[str, bytes]
    """The name of the task, and the pickle of the arguments."""


class RecordedResults:
    """Gives each recorded result once: to the call of its number, or to a later one of the same task and arguments.

    Attributes:
        calls: The results by calls.
    """

    def __init__(self) -> None:
        self._by_number: dict[int, bytes] = {}
        self.calls: dict[Key, deque[bytes]] = {}

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

    def of_number(self, number: int) -> bytes | None:
        """Take the result of the call of this number; None if there is none."""
        return self._by_number.pop(number, None)

    def of_call(self, task: str, arguments: bytes) -> bytes | None:
        """Take a result of such a submission; None if there is none.

        Args:
            task: The name of the task.
            arguments: The pickle of the arguments.
        """
        results = self.calls.get((task, arguments))
        return results.popleft() if results else None
