"""What failed and why: failures of one kind are those with the same error, raised in the same place."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk.journal.live.text import writable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amltk.journal.format import Record

MOST_KINDS = 100
"""How many kinds are counted separately; further ones are counted together."""

LAST = 20
"""How many of the last failures are kept."""

LONGEST = 2000
"""How many characters of a message are kept."""

_FRAME = re.compile(r'^ *File "([^"\n]*)", line (\d+)(?:, in (.*))?$', re.MULTILINE)


class Failure(NamedTuple):
    """A failure.

    Attributes:
        call: The call.
        time: When it was recorded, in seconds since the epoch.
        error: The name of the error.
        message: Its text.
    """

    call: int
    time: float
    error: str
    message: str


@dataclass(slots=True)
class Failures:
    """Failures of one kind.

    Attributes:
        error: The name of the error.
        where: The function and line that raised it; empty if they are not known.
        count: How many there were, attempts of a call counted one by one.
        first: The call that failed first.
        last: The one that failed last.
    """

    error: str
    where: str
    count: int
    first: int
    last: Failure


class AllFailures:
    """All failures of an experiment.

    Attributes:
        kinds: The kinds, by error and place.
        last: The last failures, the latest at the end.
        count: How many there were.
    """

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, str], Failures] = {}
        self.last: deque[Failure] = deque(maxlen=LAST)
        self.count: int = 0

    def take(self, record: Record, unknown: str) -> None:
        """Add a failure.

        Args:
            record: Its record.
            unknown: The name for an error that has none.
        """
        head = record.head
        failure = Failure(
            record.call or 0,
            record.time,
            writable(head.get("type")) or unknown,
            writable(head.get("message"))[:LONGEST],
        )
        self.count += 1
        self.last.append(failure)
        key = failure.error, _origin(head)
        kind = self.kinds.get(key)
        if kind is None and len(self.kinds) >= MOST_KINDS:
            key = "other errors", ""
            kind = self.kinds.get(key)
        if kind is None:
            kind = self.kinds[key] = Failures(*key, 0, failure.call, failure)
        kind.count += 1
        kind.last = failure


def _origin(head: Mapping[str, Any]) -> str:
    """The function and line that raised, according to the traceback."""
    found = _FRAME.findall(writable(head.get("traceback")))
    if not found:
        return ""
    path, line, function = found[-1]
    name = path.replace("\\", "/").rpartition("/")[2]
    return f"{function or '<module>'} ({name}:{line})"
