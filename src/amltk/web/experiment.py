"""The experiments of a server: read by one thread at a time, and an answer for many pages is made once."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from amltk.journal.live.follower import Follower
from amltk.web import facts

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from amltk.journal.live.table import Query

MOST_ANSWERS = 64
"""How many answers are kept."""

PATIENCE = 10
"""An answer is reused for this many times as long as it took to make, so that slow ones do not keep a CPU busy."""

STEP = 5000
"""How many records are read before others have their turn."""


class Experiment:
    """An experiment. Its methods may be called on any thread, and may take a while.

    Args:
        folder: The folder of its journal.
        name: Its name, which no other experiment of this server has.

    Attributes:
        name: As given.
    """

    def __init__(self, folder: str, name: str) -> None:
        self.name: str = name
        self._follower = Follower(folder, table=True)
        self._lock = threading.Lock()
        self._overview: tuple[object, bytes] | None = None  # and of which version it is
        self._answers: OrderedDict[Hashable, tuple[bytes, float]] = OrderedDict()

    def close(self) -> None:
        """Release what it has."""
        with self._lock:
            self._follower.close()

    def advance(self) -> bool:
        """Read some of what is new. Returns whether there may be more."""
        with self._lock:
            return self._follower.advance(STEP)

    def version(self) -> object:
        """A value that changes whenever there is something new."""
        with self._lock:
            return self._follower.version

    def overview(self) -> bytes:
        """The result of `facts.overview`, as JSON."""
        with self._lock:
            version = self._follower.version
            if self._overview is None or self._overview[0] != version:
                self._overview = version, dumped(facts.overview(self._follower, self.name))
            return self._overview[1]

    def calls(self, query: Query) -> bytes:
        """The calls that a query asks for, and how many match, as JSON."""

        def find(follower: Follower) -> Any:
            assert follower.table is not None
            return {"count": follower.table.count(query), "calls": follower.table.rows(query)}

        return self._answer(query, find)

    def call(self, number: int) -> bytes | None:
        """What is known about a call, as JSON; None if there is none."""
        with self._lock:
            found = facts.call(self._follower, number)
        return None if found is None else dumped(found)

    def part_of_timeline(self, begin: float, end: float) -> bytes:
        """The result of `facts.part_of_timeline`, as JSON."""
        return self._answer((begin, end), lambda follower: facts.part_of_timeline(follower, begin, end))

    def _answer(self, key: Hashable, make: Callable[[Follower], Any]) -> bytes:
        with self._lock:
            kept = self._answers.get(key)
            now = time.monotonic()
            if kept is not None and now < kept[1]:
                return kept[0]
            answer = dumped(make(self._follower))
            took = time.monotonic() - now
            self._answers[key] = answer, now + took + min(60.0, max(0.2, took * PATIENCE))
            self._answers.move_to_end(key)
            if len(self._answers) > MOST_ANSWERS:
                self._answers.popitem(last=False)
            return answer


def dumped(data: Any) -> bytes:
    """Data as JSON, without infinities and NaN, which only Python reads."""
    return json.dumps(facts.plain(data), separators=(",", ":"), allow_nan=False).encode()
