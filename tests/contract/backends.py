"""Every executor that must satisfy the contract. Add new back ends here.

Expectations come from the capabilities that the registry claims for the executor, in both directions: a false claim
fails a test, and so does an ability that is not claimed.
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
        expression: What a user writes to create a scheduler; `workers` is a number.
        preparation: The imports that the expression needs.
        kind: Its row in the registry.
        given: The user supplies the executor, so it cannot be created again for another run.
        engine: What must be running first, a name in `engines.ENGINES`: a cluster shared by tests.
        modules: The test modules to run on it, if it starts too slowly to run them all. The others run on another entry
            that has the same executor on a shared cluster.
        can: Its capabilities, if the registry does not know them.
        needs: A module that is not installed everywhere.
        warns: The beginning of a warning that it emits along the way.
        lacks: The tests it fails, by name with or without parameters, and why. One that "hangs" is not run; one that
            fails "sometimes" may pass.
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
        """The capabilities that the registry claims or that were measured."""
        return self.can or kind_named(self.kind).capabilities

    @property
    def is_installed(self) -> bool:
        """Whether everything it needs is installed."""
        return self.needs is None or importlib.util.find_spec(self.needs) is not None

    def __str__(self) -> str:
        return self.name


DASK = "from tests.contract.engines import dask_address\nfrom amltk.scheduling import Scheduler"
RAY = "from tests.contract.engines import RAY_CPUS\nfrom amltk.scheduling import Scheduler"

OWN_CLUSTER = ("test_capabilities", "test_cancelling", "test_ending")
"""Capabilities that depend on who owns the cluster."""

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
    ExecutorAdapter(
        "slurm-jobs",
        "slurm_jobs",
        "Scheduler.with_slurm_jobs(max_jobs=workers, partition='debug', mem='100M', poll_interval=0.2, folder=FILES)",
        "import tempfile\nfrom amltk.scheduling import Scheduler\nFILES = tempfile.gettempdir() + '/amltk-jobs'",
        engine="slurm",
        modules=("test_capabilities", "test_cancelling", "test_shared"),  # each call is a start of Python
    ),
    ExecutorAdapter("dask-client", "dask-client", "Scheduler.with_dask(dask_address(workers))", DASK, engine="dask"),
    ExecutorAdapter(
        "ray",
        "ray",
        "Scheduler.with_ray({'num_cpus': RAY_CPUS // (workers + 1)})",
        RAY,
        engine="ray",
        needs="ray",  # always the last to support a new CPython
    ),
    ExecutorAdapter("mpi", "mpi", "Scheduler.with_mpi(workers)", engine="mpi"),
)
