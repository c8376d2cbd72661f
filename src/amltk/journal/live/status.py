"""The status of a run, in a file that it replaces: what is running where, and how many calls there will be."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from amltk._checks import as_real
from amltk.journal.folder import FILE_MODE
from amltk.journal.live.text import writable
from amltk.journal.live.workers import worker_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from amltk.journal.folder import Folder

LARGEST = 4 * 1024 * 1024
"""The largest file, in bytes, that is read."""


@dataclass(frozen=True, slots=True)
class Running:
    """A call that a worker had begun.

    Attributes:
        call: Its number.
        began: When the worker began it, in seconds since the epoch; None if it is not known.
        host: The name of the worker's machine; empty if it is not known.
        pid: The worker's process; None if it is not known.
        devices: The individual things that it has, such as `gpu 0`.
    """

    call: int
    began: float | None
    host: str
    pid: int | None
    devices: tuple[str, ...] = ()

    @property
    def worker(self) -> str:
        """The name of the worker."""
        return worker_name(self.host or None, self.pid)


@dataclass(frozen=True, slots=True)
class Use:
    """How much of a resource was in use.

    Attributes:
        name: Its name.
        used: How much of it calls had.
        total: How much there was.
    """

    name: str
    used: float
    total: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """What calls waited for that the executor did not have yet.

    Attributes:
        calls: How many there were.
        pools: For each resource, how many lacked it.
        dependencies: How many waited for the results of other calls.
    """

    calls: int = 0
    pools: Mapping[str, int] = field(default_factory=dict)
    dependencies: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """The last status that the run of an experiment reported.

    Attributes:
        time: When, in seconds since the epoch; None if it has reported none.
        pid: Its process.
        total: How many calls there will be in total; None if that is not known.
        deadline: When its time is up, in seconds since the epoch; None if it has no timeout,
            or awaits the first worker, from which on its time counts.
        workers: How many workers it has; None if that is not known.
        running: The calls that were running, the earliest first.
        more: How many more there were.
        pools: The resources that calls share, as far as the program counts them.
        waiting: What calls waited for.
    """

    time: float | None = None
    pid: int | None = None
    total: int | None = None
    deadline: float | None = None
    workers: int | None = None
    running: tuple[Running, ...] = field(default=())
    more: int = 0
    pools: tuple[Use, ...] = ()
    waiting: Waiting = field(default_factory=Waiting)


def write_status(folder: Folder, told: dict[str, Any]) -> None:
    """Replace the file. A reader sees the old one or the new one.

    Raises:
        OSError: It cannot be written.
    """
    unfinished = folder.status.with_suffix(".unfinished")
    text = json.dumps(told, separators=(",", ":"))
    with open(unfinished, "w", encoding="ascii", opener=lambda path, flags: os.open(path, flags, FILE_MODE)) as file:
        file.write(text)
    unfinished.replace(folder.status)


def read_status(folder: Folder) -> Status:
    """Read the file; what is invalid in it is left out."""
    try:
        with folder.status.open("rb") as file:
            told = json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return Status()
    return _status(told) if isinstance(told, dict) else Status()


def _status(told: dict[str, Any]) -> Status:
    running = told.get("running")
    calls = [_running(call) for call in running if isinstance(call, dict)] if isinstance(running, list) else []
    return Status(
        as_real(told.get("time")),
        _count(told.get("pid")),
        _count(told.get("total")),
        as_real(told.get("deadline")),
        _count(told.get("workers")),
        tuple(call for call in calls if call is not None),
        _count(told.get("more")) or 0,
        tuple(_uses(told.get("pools"))),
        _waiting(told.get("waiting")),
    )


def _uses(told: Any) -> Iterator[Use]:
    for use in told if isinstance(told, list) else []:
        match use:
            case [str(name), used, total]:
                amounts = as_real(used), as_real(total)
                if None not in amounts and all(0 <= amount < math.inf for amount in amounts):  # type: ignore[operator]
                    yield Use(writable(name), *amounts)  # type: ignore[arg-type]


def _waiting(told: Any) -> Waiting:
    if not isinstance(told, dict):
        return Waiting()
    pools = told.get("pools")
    lacking = ((writable(name), _count(n)) for name, n in pools.items()) if isinstance(pools, dict) else ()
    known = {name: n for name, n in lacking if n is not None}
    return Waiting(_count(told.get("calls")) or 0, known, _count(told.get("dependencies")) or 0)


def _running(told: dict[str, Any]) -> Running | None:
    number = _count(told.get("call"))
    if number is None:
        return None
    devices = told.get("devices")
    return Running(
        number,
        as_real(told.get("began")),
        writable(told.get("host")),
        _count(told.get("pid")),
        tuple(map(writable, devices)) if isinstance(devices, list) else (),
    )


def _count(number: Any) -> int | None:
    return number if type(number) is int and number >= 0 else None
