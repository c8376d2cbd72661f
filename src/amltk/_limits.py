"""The limits that the system sets to this process, and error messages for what it has no memory for."""

from __future__ import annotations

UNLIMITED = 1 << 62
"""Larger values of a limit mean that there is none."""


def soft_limit(name: str) -> int | None:
    """A limit that the process may exhaust, such as "RLIMIT_NOFILE"; None if it is not limited."""
    try:
        import resource
    except ImportError:  # there are no such limits on Windows
        return None
    soft, _ = resource.getrlimit(getattr(resource, name))
    return None if soft in {resource.RLIM_INFINITY, -1} or soft > UNLIMITED else soft


def out_of_memory(what: str, n_bytes: int, remedy: str) -> MemoryError:
    """The error for data that this process has no memory for.

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
    """The error for objects that there is no memory to pickle."""
    return MemoryError(f"this process has no memory left to pickle what is sent {whither} ({memory_limits()})")


def memory_limits() -> str:
    """The limits because of which the system may refuse this process memory."""
    limits = {"address space, ulimit -v": soft_limit("RLIMIT_AS"), "data, ulimit -d": soft_limit("RLIMIT_DATA")}
    said = [f"limit of its {name}: {_in_mebibytes(limit)}" for name, limit in limits.items() if limit is not None]
    return ", ".join(said) or "no limit is set: the machine itself has none left"


def _in_mebibytes(n_bytes: int) -> str:
    return f"{n_bytes / (1 << 20):,.1f} MiB"
