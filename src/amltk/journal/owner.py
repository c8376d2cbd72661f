"""Which process uses a journal: an identity that no other process ever has, on whichever machine."""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

_ON_LINUX = sys.platform == "linux"


class Owner(NamedTuple):
    """A process.

    Attributes:
        host: The name of its machine.
        pid: Its process ID.
        boot: What tells the time since the machine was started from all other times.
        started: When the process was started. Process IDs are used again, but not together with this.
    """

    host: str
    pid: int
    boot: str
    started: float

    @classmethod
    def me(cls) -> Owner:
        """This process."""
        pid = os.getpid()
        return cls(os.uname().nodename, pid, _boot(), _start_of(pid) or 0.0)

    @classmethod
    def from_text(cls, text: str) -> Owner | None:
        """The counterpart of `to_text`; None if the text is incomplete."""
        try:
            told = json.loads(text)
            return cls(str(told["host"]), int(told["pid"]), str(told["boot"]), float(told["started"]))
        except (ValueError, TypeError, KeyError):
            return None

    def to_text(self) -> str:
        """One line of JSON."""
        return json.dumps(self._asdict()) + "\n"

    def is_alive(self) -> bool | None:
        """Whether the process is still there; None if that cannot be told, since it is on another machine."""
        if self.host != os.uname().nodename:
            return None
        return self.boot == _boot() and self.started == _start_of(self.pid)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@functools.cache
def _boot() -> str:
    if _ON_LINUX:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    import psutil

    return str(psutil.boot_time())


def _start_of(pid: int) -> float | None:
    """When a process of this machine was started, on a clock of the system's; None if there is none."""
    if _ON_LINUX:
        try:
            line = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return None
        state, *fields = line[line.rindex(b")") + 2 :].split()  # the program's name may contain anything
        return None if state in b"ZX" else float(fields[18])
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
