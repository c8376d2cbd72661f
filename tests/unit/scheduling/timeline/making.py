"""Records for tests."""

from __future__ import annotations

from typing import Any

from amltk.scheduling.timeline import Record

START = 1024.0


def record(began: float | None, ended: float | None, pid: int | None = 1, **changes: Any) -> Record:
    """A record of a call; times are seconds from a start."""
    made = Record(
        function="train",
        arguments="1",
        outcome="succeeded",
        error="",
        attempt=1,
        submitted=START,
        began=None if began is None else START + began,
        ended=None if ended is None else START + ended,
        host="node",
        pid=pid,
        thread=None,
        by_worker=pid is not None,
    )
    return made._replace(**changes)
