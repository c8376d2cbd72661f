"""The environment in which Slurm's commands are run."""

from __future__ import annotations

from amltk._process.program import environment

KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"})
"""The variables that say where Slurm is, and who asks."""

LEFT_OUT = ("SLURM_", "SLURMD_", "SQUEUE_", "SACCT_", "SCANCEL_")
"""How the others begin that commands would take for options."""


def slurm_environment() -> dict[str, str]:
    """The environment of this program, as Slurm's commands and plain jobs get it.

    Without what Slurm has told a job in which this program itself runs, and without what hides jobs from `squeue` or
    changes what it prints.
    """
    return {name: value for name, value in environment().items() if name in KEPT or not name.startswith(LEFT_OUT)}
