"""Every executor that is held to the contract. A new back end is one more entry here.

What is expected of an entry is read from the capabilities that the registry claims for its executor, in both
directions: a claim that is not true fails a test, and so does an ability that is not claimed.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amltk.scheduling.executors.registry import kind_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities


@dataclass(frozen=True)
class ExecutorAdapter:
    """One way for a user to get a scheduler.

    Attributes:
        name: Shown as the parameter of the tests.
        expression: What a user writes to make a scheduler; `workers` is a number.
        preparation: The imports that the expression needs.
        kind: Its row in the registry.
        given: The user brings the executor, so that it cannot be made anew for another run.
        engine: What has to run before, a name in `engines.ENGINES`: a cluster that tests share.
        modules: The modules of this suite that are run on it, where starting it takes so long that they cannot be all.
            The rest is run on another entry, which has the same executor on a cluster that is shared.
        can: What it can do, where the registry knows nothing of it.
        needs: A module that is not installed everywhere.
        warns: How a warning begins that it gives in passing.
        lacks: The tests that it fails, by their names without parameters or with them, and why. One that "hangs" is not
            run, one that it fails "sometimes" may pass.
    """

    name: str
    kind: str
    expression: str
    preparation: str = "from amltk.scheduling import Scheduler"
    given: bool = False
    engine: str | None = None
    modules: tuple[str, ...] | None = None
    can: Capabilities | None = None
    needs: str | None = None
    warns: str | None = None
    lacks: Mapping[str, str] = field(default_factory=dict, hash=False)

    def make(self, workers: int = 2) -> Scheduler:
        """Make a scheduler."""
        namespace: dict[str, object] = {"workers": workers}
        exec(self.preparation, namespace)
        scheduler: Scheduler = eval(self.expression, namespace)
        return scheduler

    @property
    def capabilities(self) -> Capabilities:
        """What the registry claims, or was measured."""
        return self.can or kind_named(self.kind).capabilities

    @property
    def is_installed(self) -> bool:
        """Whether there is what it needs."""
        return self.needs is None or importlib.util.find_spec(self.needs) is not None

    def __str__(self) -> str:
        return self.name


DASK = "from tests.contract.engines import dask_address\nfrom amltk.scheduling import Scheduler"
RAY = "from tests.contract.engines import RAY_CPUS\nfrom amltk.scheduling import Scheduler"

OWN_CLUSTER = ("test_capabilities", "test_cancelling", "test_ending")
"""What depends on whose the cluster is."""

BACKENDS = (
    ExecutorAdapter("processes", "processes", "Scheduler.with_processes(workers)"),
    ExecutorAdapter("threads", "threads", "Scheduler.with_threads(workers)"),
    ExecutorAdapter("sequential", "sequential", "Scheduler.with_sequential()"),
    ExecutorAdapter(
        "given-process-pool",
        "process-pool-executor",
        "Scheduler(ProcessPoolExecutor(workers))",
        "from concurrent.futures import ProcessPoolExecutor\nfrom amltk.scheduling import Scheduler",
        given=True,
    ),
    ExecutorAdapter(
        "given-thread-pool",
        "thread-pool-executor",
        "Scheduler(ThreadPoolExecutor(workers))",
        "from concurrent.futures import ThreadPoolExecutor\nfrom amltk.scheduling import Scheduler",
        given=True,
    ),
    ExecutorAdapter("loky", "loky", "Scheduler.with_loky(workers)"),
    ExecutorAdapter("dask", "dask", "Scheduler.with_dask(n_workers=workers, memory_limit=None)", modules=OWN_CLUSTER),
    ExecutorAdapter(
        "slurm",
        "dask_jobqueue",
        "Scheduler.with_slurm(n_workers=workers, queue='debug', cores=1, memory='1GB', walltime='00:30:00',"
        " interface='lo', scheduler_options={'host': '127.0.0.1'}, log_directory=LOGS)",
        "import tempfile\nfrom amltk.scheduling import Scheduler\nLOGS = tempfile.gettempdir()",
        engine="slurm",
        modules=OWN_CLUSTER,
    ),
    ExecutorAdapter("dask-client", "dask-client", "Scheduler.with_dask(dask_address(workers))", DASK, engine="dask"),
    ExecutorAdapter(
        "ray",
        "ray",
        "Scheduler.with_ray({'num_cpus': RAY_CPUS // (workers + 1)})",
        RAY,
        engine="ray",
        needs="ray",  # which is the last to follow a new CPython
    ),
    ExecutorAdapter("mpi", "mpi", "Scheduler.with_mpi(workers)", engine="mpi"),
)
