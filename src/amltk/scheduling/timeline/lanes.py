"""Assigns calls to the lanes of the picture: one per known worker, and as many as needed for unknown workers."""

from __future__ import annotations

import heapq
import re
from collections import defaultdict
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from amltk.scheduling.timeline.record import Record

Worker = tuple[str | None, int | None, str | None]


class Lane(NamedTuple):
    """One lane of the picture.

    Attributes:
        name: Its label.
        host: The machine; None if the worker is unknown.
        pid: The process; None if unknown.
        known: Whether it is a single worker. Otherwise the lane only serves to show overlapping calls.
        records: The calls computed there, in order of time.
        is_device: Whether it shows which calls had a device, and not what a worker has computed.
    """

    name: str
    host: str | None
    pid: int | None
    known: bool
    records: list[Record]
    is_device: bool = False


def lanes(records: Iterable[Record]) -> list[Lane]:
    """Sort calls that began into lanes: known workers first, by machine and by the start of their first call."""
    workers: dict[Worker, list[Record]] = defaultdict(list)
    unknown: list[Record] = []
    for record in records:
        if record.began is None:
            continue
        if record.by_worker:
            workers[record.host, record.pid, record.thread].append(record)
        else:
            unknown.append(record)
    for mine in workers.values():
        mine.sort(key=_began)
    order = sorted(workers, key=lambda worker: (worker[0] or "", _began(workers[worker][0])))
    names = worker_names(order)
    known = [Lane(names[worker], worker[0], worker[1], True, workers[worker]) for worker in order]
    return known + [Lane(f"any worker, {n}", None, None, False, lane) for n, lane in enumerate(apart(unknown), start=1)]


def device_lanes(records: Iterable[Record]) -> list[Lane]:
    """Which call had which device, and when: a lane for each device; several where calls that share it overlap."""
    devices: dict[tuple[str, str | None], list[Record]] = defaultdict(list)
    for record in records:
        if record.began is not None:
            for device in record.devices:
                devices[device, record.host].append(record)
    hosts = {host for _, host in devices}
    found = []
    for device, host in sorted(devices, key=lambda one: (one[1] or "", _natural(one[0]))):
        name = f"{host or '?'}, {device}" if len(hosts) > 1 else device
        shares = apart(devices[device, host])
        names = (name if n == 1 else f"{name}, share {n}" for n in count(1))
        found += [Lane(label, host, None, True, share, True) for label, share in zip(names, shares, strict=False)]
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    """`gpu 10` after `gpu 9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def worker_names(workers: Sequence[Worker]) -> dict[Worker, str]:
    """A short name for each: without the machine if there is only one, without the thread if a process has only one."""
    hosts = {host for host, _, _ in workers}
    threads: dict[tuple[str | None, int | None], set[str | None]] = defaultdict(set)
    for host, pid, thread in workers:
        threads[host, pid].add(thread)
    names = {}
    for host, pid, thread in workers:
        name = "pid ?" if pid is None else f"pid {pid}"
        if len(hosts) > 1:
            name = f"{host or '?'}, {name}"
        if len(threads[host, pid]) > 1:
            name = f"{name}, {thread}" if len(threads) > 1 else f"{thread}"
        names[host, pid, thread] = name
    return names


def apart(records: Iterable[Record]) -> list[list[Record]]:
    """Spread records over as few lanes as possible, so that no two in a lane overlap."""
    found: list[list[Record]] = []
    free: list[tuple[float, int]] = []  # when each lane becomes free, and its number
    numbers = count()
    for record in sorted(records, key=_began):
        if free and free[0][0] <= _began(record):
            _, number = heapq.heappop(free)
        else:
            number = next(numbers)
            found.append([])
        found[number].append(record)
        heapq.heappush(free, (float("inf") if record.ended is None else record.ended, number))
    return found


def _began(record: Record) -> float:
    assert record.began is not None
    return record.began
