"""Every executor that is held to the contract. A new back end is one more entry here.

What is expected of an entry is read from the capabilities that the registry claims for its executor, in both
directions: a claim that is not true fails a test, and so does an ability that is not claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities


@dataclass(frozen=True)
class Backend:
    """One way for a user to get a scheduler.

    Attributes:
        name: Shown as the parameter of the tests.
        expression: What a user writes to make a scheduler; `workers` is a number.
        preparation: The imports that the expression needs.
        given: The user brings the executor, so that it cannot be made anew for another run.
    """

    name: str
    expression: str
    preparation: str = "from amltk.scheduling import Scheduler"
    given: bool = False

    def make(self, workers: int = 2) -> Scheduler:
        """Make a scheduler."""
        namespace: dict[str, object] = {"workers": workers}
        exec(self.preparation, namespace)
        scheduler: Scheduler = eval(self.expression, namespace)
        return scheduler

    @property
    def capabilities(self) -> Capabilities:
        """What the registry claims."""
        return self.make().executor_kind.capabilities

    def __str__(self) -> str:
        return self.name


BACKENDS = (
    Backend("processes", "Scheduler.with_processes(workers)"),
    Backend("threads", "Scheduler.with_threads(workers)"),
    Backend("sequential", "Scheduler.with_sequential()"),
    Backend(
        "given-process-pool",
        "Scheduler(ProcessPoolExecutor(workers))",
        "from concurrent.futures import ProcessPoolExecutor\nfrom amltk.scheduling import Scheduler",
        given=True,
    ),
    Backend(
        "given-thread-pool",
        "Scheduler(ThreadPoolExecutor(workers))",
        "from concurrent.futures import ThreadPoolExecutor\nfrom amltk.scheduling import Scheduler",
        given=True,
    ),
)
