"""The options of jobs as Slurm's users know them, in place of those of dask-jobqueue."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from amltk._checks import BYTES, SECONDS, as_whole, check_count, parse_amount

if TYPE_CHECKING:
    from collections.abc import Mapping

SAME = {"partition": "queue", "time": "walltime", "mem": "memory", "cpus_per_task": "cores"}
"""What they are called in dask-jobqueue."""

DIRECTIVES = ("constraint", "exclude", "gpus", "gres", "licenses", "nodelist", "qos", "reservation")
"""Those that go into the job's script as they are."""

SLURM_BYTES = {"": 2**20, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
"""Slurm's units of memory, which are powers of 1024; without one it is megabytes."""

_TIME = re.compile(r"(?:(\d+)-(\d+)(?::(\d+))?(?::(\d+))?|(\d+)|(\d+):(\d+)|(\d+):(\d+):(\d+))")
"""Slurm's forms: days-hours:minutes:seconds, also without what comes last; minutes; minutes:seconds; h:min:s."""

UNLIMITED = {"infinite", "unlimited"}


def of_slurm(given: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Options with Slurm's names, as dask-jobqueue and `Group` take them.

    Args:
        given: The user's options, which may also have the names of dask-jobqueue.
        where: What precedes a name in messages, such as `groups['gpu'].`.

    Raises:
        ValueError: A value is not in Slurm's form, or something is given twice.
        TypeError: A value has the wrong type.
    """
    options = {name: value for name, value in given.items() if name not in SAME and name not in DIRECTIVES}
    for theirs, ours in SAME.items():
        if given.get(theirs) is None:
            continue
        if given.get(ours) is not None:
            raise ValueError(f"{where}{theirs}={given[theirs]!r}: {ours}={given[ours]!r} is given as well")
        options[ours] = _READERS[theirs](f"{where}{theirs}", given[theirs])
    if isinstance(options.get("walltime"), str):  # `30:00` are minutes for Slurm, and hours elsewhere
        options["walltime"] = _read_slurm_time(options["walltime"]) or options["walltime"]
    directives = [f"--{name}={given[name]}" for name in DIRECTIVES if given.get(name) is not None]
    if directives:
        options["job_extra_directives"] = [*options.get("job_extra_directives", ()), *directives]
    if given.get("gpus") is not None:
        resources = options.get("resources") or {}
        options["resources"] = {"gpu": _n_gpus(f"{where}gpus", given["gpus"]), **resources}
    return options


def merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Options of which some are replaced, also under the other name for the same."""
    replaced = {SAME.get(name, name) for name in own}
    return {name: value for name, value in shared.items() if SAME.get(name, name) not in replaced} | dict(own)


def refuse_names(system: str, given: Mapping[str, Any]) -> None:
    """Raise if an option has a name of Slurm's, on another batch system.

    Raises:
        TypeError: One does.
    """
    for name in given.keys() & {*SAME, *DIRECTIVES}:
        value = given[name]
        instead = f"{SAME[name]}={value!r}" if name in SAME else "job_extra_directives=[...], as in a job script"
        raise TypeError(f"{name}={value!r}: this is an option of Slurm, and not of {system}; write {instead}")


def names_used(given: Mapping[str, Any]) -> dict[str, str]:
    """The names of Slurm's that the user has written, by those of dask-jobqueue."""
    return {ours: theirs for theirs, ours in SAME.items() if given.get(theirs) is not None}


def _read_time(name: str, value: Any) -> str:
    if isinstance(value, timedelta):
        return _slurm_time(value.total_seconds())
    if isinstance(value, str):
        if value.lower() in UNLIMITED:
            return value
        if (text := _read_slurm_time(value)) is not None:
            return text
        seconds = parse_amount(value, SECONDS)
        if seconds is not None and seconds >= 1:
            return _slurm_time(seconds)
    raise ValueError(
        f"{name}={value!r}: must be a time limit in Slurm's form, such as '30' (minutes), '30:00', '12:00:00' or"
        f" '2-12', a text with a unit ({', '.join(SECONDS)}) such as '90 min', or a timedelta"
    )


def _read_slurm_time(value: str) -> str | None:
    """A time limit in one of Slurm's forms, in full; None if it is not in one of them."""
    found = _TIME.fullmatch(value.strip())
    if found is None:
        return None
    days, d_hours, d_minutes, d_seconds, only, minutes, seconds, *clock = (int(part or 0) for part in found.groups())
    total = days * 86400 + d_hours * 3600 + (d_minutes + only + minutes) * 60 + d_seconds + seconds
    return _slurm_time(total + clock[0] * 3600 + clock[1] * 60 + clock[2])


def _slurm_time(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02}:{minute:02}:{second:02}" if days else f"{hour:02}:{minute:02}:{second:02}"


def _read_memory(name: str, value: Any) -> str:
    if isinstance(value, str):
        found = re.fullmatch(r"(\d+)([KMGT]?)", value.strip().upper())
        size = parse_amount(value, BYTES) if found is None else float(int(found[1]) * SLURM_BYTES[found[2]])
        if size is not None and size >= 1:
            return f"{int(size)}B"
    raise ValueError(
        f"{name}={value!r}: must be the memory of a job in Slurm's form, such as '4000M' or '16G', where a G is 1024 M,"
        f" or a text with a unit ({', '.join(BYTES)}) such as '16 GB'"
    )


def _n_gpus(name: str, value: Any) -> int:
    number = as_whole(value)
    if number is None and isinstance(value, str) and (found := re.fullmatch(r"(?:[^:,]+:)?(\d+)", value.strip())):
        number = int(found[1])
    if number is None or number < 1:
        raise ValueError(f"{name}={value!r}: must be the number of GPUs of a job, or a text such as 'a100:2'")
    return number


_READERS = {"partition": lambda _, value: value, "time": _read_time, "mem": _read_memory, "cpus_per_task": check_count}
