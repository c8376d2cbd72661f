"""Error messages for a system that lacks the resources to start a process."""

from __future__ import annotations

import errno
import resource

UNLIMITED = 1 << 62
"""Larger values mean that there is no limit."""


def explain(error: OSError) -> str:
    """The resource that has run out, and the remedy."""
    return f"{error}{_REMEDIES.get(error.errno or 0, _nothing)()}"


def _nothing() -> str:
    return ""


def _limit(number: int) -> str:
    soft, _ = resource.getrlimit(number)
    return "none" if soft in {resource.RLIM_INFINITY, -1} or soft > UNLIMITED else str(soft)


def _processes() -> str:
    return (
        "; the limit of processes and threads is reached, of the user (ulimit -u: "
        f"{_limit(resource.RLIMIT_NPROC)}) or of the job (pids.max of its cgroup). Use fewer workers, or raise it"
    )


def _descriptors() -> str:
    return (
        f"; the limit of open files is reached (ulimit -n: {_limit(resource.RLIMIT_NOFILE)}), and a worker "
        "takes two. Close files, use fewer workers, or raise the limit, for example with resource.setrlimit"
    )


def _memory() -> str:
    return "; there is no memory left for another process. Use fewer workers, or let calls use less"


_REMEDIES = {
    errno.EAGAIN: _processes,
    errno.EMFILE: _descriptors,
    errno.ENFILE: lambda: "; the system has no file descriptors left (sysctl fs.file-max)",
    errno.ENOMEM: _memory,
}
