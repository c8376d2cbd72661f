"""What jobs are asked for: the options of sbatch."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from amltk.exceptions import ResourceUnavailableError
from amltk.scheduling._admission.amounts import UNIT, amount_text
from amltk.scheduling._admission.pools import GPU

if TYPE_CHECKING:
    from collections.abc import Mapping

OURS = {
    "job_name": "jobs are named by the executor, which finds them by their names",
    "output": "what a job prints goes to output.log in the folder of its call",
    "error": "what a job prints goes to output.log in the folder of its call",
    "array": "each call is a job of its own",
    "wrap": "the executor writes the script; give lines that come first by prologue=[...]",
    "wait": "the executor waits itself",
    "parsable": "the executor reads what sbatch prints",
    "test_only": "nothing would be computed",
    "clusters": "jobs are looked for on the cluster of this machine only",
    "hold": "the call would wait without end",
}
"""The options of sbatch that cannot be given, and why."""

MIB = 1024**2


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of sbatch, as given by the user.

    Raises:
        ValueError: One cannot be given, or has no name of an option.
        TypeError: The value of one is neither a text nor a number nor a bool.
    """
    for name, value in options.items():
        if name in OURS:
            raise ValueError(f"{name}={value!r}: this option of sbatch cannot be given: {OURS[name]}")
        if not re.fullmatch(r"[a-z][a-z0-9_]+", name):
            raise ValueError(
                f"{name}={value!r}: must be a long option of sbatch, with _ for each -, such as cpus_per_task"
            )
        if not isinstance(value, str | int | float | bool | None):
            raise TypeError(f"{name}={value!r}: must be a text, a number, True for an option without a value, or None")
    return dict(options)


def asked_for(wanted: Mapping[str, int], needs_time: float) -> dict[str, Any]:
    """The options that ask for what a call wants.

    Args:
        wanted: How many units of what, by name.
        needs_time: How many seconds; 0.0 for what all jobs have.

    Raises:
        ResourceUnavailableError: Slurm has no such shares.
    """
    options: dict[str, Any] = {}
    licenses = []
    for name, units in wanted.items():
        if name == "memory":
            options["mem"] = f"{max(1, math.ceil(units / UNIT / MIB))}M"
            continue
        if name != "cpu" and units % UNIT:
            raise ResourceUnavailableError(
                f"Slurm gives whole units of {name}, and not {amount_text(units)}: ask for a whole number in"
                f" Resources({name}=...)"
            )
        amount = math.ceil(units / UNIT)
        if name == "cpu":
            options["cpus_per_task"] = max(1, amount)
        elif name == GPU:
            options["gpus"] = amount or None
        elif amount:
            licenses.append(f"{name}:{amount}")
    if licenses:
        options["licenses"] = ",".join(licenses)
    if needs_time:
        options["time"] = math.ceil(needs_time / 60)
    return options


INSTEAD: Mapping[str, tuple[str, ...]] = {
    "mem": ("mem_per_cpu", "mem_per_gpu"),
    "gpus": ("gpus_per_node", "gpus_per_task", "gres"),
}
"""Which options of all jobs one of a call takes the place of, besides the one of the same name."""


def arguments(options: Mapping[str, Any], of_call: Mapping[str, Any]) -> list[str]:
    """The arguments of sbatch: those of a call take precedence."""
    replaced = {name for option in of_call for name in INSTEAD.get(option, ())}
    merged = {name: value for name, value in options.items() if name not in replaced} | dict(of_call)
    found = []
    for name, value in merged.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(option)
        elif value is not None and value is not False:
            found.append(f"{option}={value}")
    return found
