"""The environment in which Slurm's commands are run."""

from __future__ import annotations

from amltk._process.program import environment

KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"})
"""The variables that say where Slurm is, and who asks."""

PREFIXES = ("SLURM_", "SLURMD_", "SQUEUE_", "SACCT_", "SCANCEL_")
"""How the names of variables begin that neither Slurm's commands nor jobs are given, but for those above."""

UNWANTED = frozenset({"SBATCH_ARRAY_INX", "SBATCH_CLUSTERS", "SBATCH_ERROR", "SBATCH_WAIT"})
"""Other variables that they are not given: `sbatch` takes from there options that `with_slurm_jobs` refuses."""


def slurm_environment() -> dict[str, str]:
    """The environment of this program, as Slurm's commands and plain jobs get it.

    Without what Slurm has told a job in which this program itself runs, without what hides jobs from `squeue` or
    changes what it prints, and without defaults for options of `sbatch` that cannot be given.
    """
    return {
        name: value
        for name, value in environment().items()
        if name in KEPT or not (name in UNWANTED or name.startswith(PREFIXES))
    }
