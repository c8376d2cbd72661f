"""The workers of an experiment, and how much each has computed."""

from __future__ import annotations

from dataclasses import dataclass

MOST = 2048
"""How many workers are counted separately, which takes some 5 kB each; further ones are counted together. So many that
a thousand and those that have taken the places of lost ones are."""

OTHERS = "other workers"


@dataclass(slots=True)
class Worker:
    """A worker.

    Attributes:
        name: Its process and machine: `4711@node-3`.
        row: The name of its row of buckets.
        calls: How many calls it has computed.
        failed: How many of them have failed.
        seconds: How long it has computed.
        last: When it ended the last one, in seconds since the epoch.
    """

    name: str
    row: str
    calls: int = 0
    failed: int = 0
    seconds: float = 0.0
    last: float = 0.0


class Workers:
    """All workers, in the order in which they came.

    Attributes:
        by_name: The workers.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, Worker] = {}

    def take(self, name: str, ended: float, seconds: float, *, failed: bool) -> Worker:
        """Add a call that was computed."""
        worker = self.by_name.get(name)
        if worker is None:
            if len(self.by_name) >= MOST:
                name = OTHERS
            worker = self.by_name.get(name) or Worker(name, f"worker {len(self.by_name)}")
            self.by_name[name] = worker
        worker.calls += 1
        worker.failed += failed
        worker.seconds += seconds
        worker.last = max(worker.last, ended)
        return worker


def worker_name(host: str | None, pid: int | None) -> str:
    """The name of a worker; empty if it is not known."""
    if pid is None:
        return host or ""
    return f"{pid}@{host}" if host else str(pid)
