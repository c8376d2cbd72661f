"""The GPUs of this machine, and the variables that say which ones a process may use."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CUDA = "CUDA_VISIBLE_DEVICES"
ROCR = "ROCR_VISIBLE_DEVICES"

ORDER = "CUDA_DEVICE_ORDER"
"""How CUDA numbers the devices of a machine; `PCI_BUS_ID` is the order of `nvidia-smi`."""

_LISTED = re.compile(r"^\s*(?:GPU \d+:.*?\(UUID: (?P<gpu>[^)]+)\)|MIG .*?\(UUID: (?P<mig>[^)]+)\))", re.MULTILINE)


def find_gpus(environ: Mapping[str, str] | None = None, list_gpus: Callable[[], str] | None = None) -> tuple[str, ...]:
    """The ids of the GPUs that this process may use, in their order; none if there are none.

    What `CUDA_VISIBLE_DEVICES` or `ROCR_VISIBLE_DEVICES` names counts, as it stands: numbers, UUIDs or MIG ids. Else
    the devices that `nvidia-smi -L` lists, by number; on one that is divided into MIG instances, those by their ids.

    Args:
        environ: The environment; None for that of this process.
        list_gpus: Returns what `nvidia-smi -L` prints; None to run it.
    """
    environ = os.environ if environ is None else environ
    for variable in (CUDA, ROCR):
        if variable in environ:
            return _named(environ[variable])
    return _listed((list_gpus or _nvidia_smi)())


def _named(value: str) -> tuple[str, ...]:
    """The devices that a variable names: up to the first invalid one, as CUDA has it."""
    ids: list[str] = []
    for one in (part.strip() for part in value.split(",")):
        if not one or one.startswith("-") or one in ids or one.lower() in {"none", "void", "nodevfiles"}:
            break
        ids.append(one)
    return tuple(ids)


def _listed(text: str) -> tuple[str, ...]:
    ids: list[str] = []
    number = -1
    for match in _LISTED.finditer(text):
        if match["gpu"]:
            number += 1
            ids.append(str(number))
        else:
            if ids and ids[-1] == str(number):
                ids.pop()  # a device that is divided cannot be used as a whole
            ids.append(match["mig"])
    return tuple(ids)


def _nvidia_smi() -> str:
    try:
        return subprocess.run(
            ["nvidia-smi", "-L"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def variables_for(ids: Iterable[str], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment variables of a process that may use these GPUs and no others.

    Args:
        ids: The GPUs; none to hide all.
        environ: The environment; None for that of this process.
    """
    environ = os.environ if environ is None else environ
    value = ",".join(ids)
    if ROCR in environ and CUDA not in environ:
        return {ROCR: value}
    if not value:
        return {CUDA: "", ROCR: ""}
    return {CUDA: value, ORDER: "PCI_BUS_ID"}
