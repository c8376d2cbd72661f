"""Error messages for a system that has run out of something: processes, descriptors, memory."""

from __future__ import annotations

import errno

from amltk._process.limits import memory_limits, soft_limit


def explain(error: OSError | MemoryError) -> str:
    """The resource that ran out when a process was to be started, and the remedy."""
    if isinstance(error, MemoryError):
        return f"out of memory{_memory()}"
    return f"{error}{_REMEDIES.get(error.errno or 0, _nothing)()}"


def _nothing() -> str:
    return ""


def _limit(name: str) -> str:
    limit = soft_limit(name)
    return "none" if limit is None else str(limit)


def _processes() -> str:
    return (
        "; the limit of processes and threads is reached, of the user (ulimit -u: "
        f"{_limit('RLIMIT_NPROC')}) or of the job (pids.max of its cgroup). Use fewer workers, or raise it"
    )


def of_threads() -> str:
    """What may have run out when no thread can be started, and the remedy."""
    return (
        f"{_processes()}; or there is no memory left for its stack ({memory_limits()}), or the interpreter is shutting "
        "down"
    )


def _descriptors() -> str:
    return (
        f"; the limit of open files is reached (ulimit -n: {_limit('RLIMIT_NOFILE')}), and a worker "
        "takes two. Close files, use fewer workers, or raise the limit, for example with resource.setrlimit"
    )


def _memory() -> str:
    return (
        f"; there is no memory left for another process ({memory_limits()}). Use fewer workers, or let calls use less"
    )


_REMEDIES = {
    errno.EAGAIN: _processes,
    errno.EMFILE: _descriptors,
    errno.ENFILE: lambda: "; the system has no file descriptors left (sysctl fs.file-max)",
    errno.ENOMEM: _memory,
}
