"""The resource limits of this process, and error messages for data that does not fit into its memory."""

from __future__ import annotations

import errno

UNLIMITED = 1 << 62
"""A limit above this value counts as unlimited."""


def soft_limit(name: str) -> int | None:
    """A soft limit of this process, such as "RLIMIT_NOFILE"; None if there is no limit."""
    try:
        import resource
    except ImportError:  # there are no such limits on Windows
        return None
    soft, _ = resource.getrlimit(getattr(resource, name))
    return None if soft in {resource.RLIM_INFINITY, -1} or soft > UNLIMITED else soft


def reason_of(error: OSError) -> str:
    """Why a file cannot be made, read or written, with the limit that is reached."""
    reason = error.strerror or str(error)
    if error.errno == errno.EFBIG:
        return f"{reason} (limit of the size of files, ulimit -f: {soft_limit('RLIMIT_FSIZE')} bytes)"
    if error.errno == errno.EMFILE:
        return f"{reason} (limit of open files, ulimit -n: {soft_limit('RLIMIT_NOFILE')})"
    return reason


def out_of_memory(what: str, n_bytes: int, remedy: str) -> MemoryError:
    """The error for data that does not fit into the memory of this process.

    Args:
        what: The data, such as "the result".
        n_bytes: Its size in bytes.
        remedy: What to do, besides raising a limit.
    """
    return MemoryError(
        f"{what} takes {_in_mebibytes(n_bytes)}, for which this process has no memory left"
        f" ({memory_limits()}). {remedy}, or raise the limit"
    )


def no_memory_to_pickle(whither: str) -> MemoryError:
    """The error for objects that cannot be pickled for lack of memory."""
    return MemoryError(f"this process has no memory left to pickle what is sent {whither} ({memory_limits()})")


def memory_limits() -> str:
    """The limits that may make the system refuse memory to this process."""
    limits = {"address space, ulimit -v": soft_limit("RLIMIT_AS"), "data, ulimit -d": soft_limit("RLIMIT_DATA")}
    said = [f"limit of its {name}: {_in_mebibytes(limit)}" for name, limit in limits.items() if limit is not None]
    return ", ".join(said) or "no limit is set: the machine itself has none left"


def _in_mebibytes(n_bytes: int) -> str:
    return f"{n_bytes / (1 << 20):,.1f} MiB"
