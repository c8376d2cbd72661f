"""How the pool's workers are started and ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amltk.scheduling.executors.process_pool._child.initializer import Initializer

METHODS = ("forkserver", "spawn", "fork")
"""How workers can be started."""

AUTO: Literal["auto"] = "auto"
"""Preload the modules that calls turn out to need."""

EXIT_SECONDS = 10.0
"""How long a worker may take to end."""


@dataclass(frozen=True)
class WorkerOptions:
    """The arguments of `ProcessPool` that concern its workers.

    Attributes:
        method: How workers are started, one of `METHODS`.
        directory: Their working directory; None if that of this process does not exist.
        initialize: The function that each worker calls first; or None.
        preload: The modules to import ahead, or `AUTO`.
        exit_timeout: How many seconds a worker may take to end.
        idle_timeout: After how many seconds without calls a worker ends; None for never.
        max_worker_memory: How many bytes of memory a worker may have between calls; None for no limit.
        shared_memory: How many bytes of shared memory are used at most; 0 for none.
    """

    method: str
    directory: str | None = None
    initialize: Initializer | None = None
    preload: tuple[str, ...] | Literal["auto"] = AUTO
    exit_timeout: float = EXIT_SECONDS
    idle_timeout: float | None = None
    max_worker_memory: int | None = None
    shared_memory: int = 0


class Surroundings(NamedTuple):
    """The environment that workers start with.

    Attributes:
        directory: Their working directory; None for the current one.
        variables: Environment variables, unless this process sets them.
        tracker: The descriptor for the resource tracker, see `resource_tracker`.
        untold: The descriptor that tells what this process has not forwarded to it; -1 if there is none.
    """

    directory: str | None
    variables: Mapping[str, str]
    tracker: int
    untold: int


def check_preload(preload: Iterable[str] | Literal["auto"] | None, method: str) -> tuple[str, ...] | Literal["auto"]:
    """Check and normalise `preload=`.

    Raises:
        TypeError: It is not a collection of names.
        ValueError: It names modules, but no process can import them ahead.
    """
    if preload is None or (isinstance(preload, str) and preload == AUTO):
        return AUTO
    if isinstance(preload, str | bytes) or not isinstance(preload, Iterable):
        raise TypeError(f"preload={preload!r}: must be 'auto' or a list of module names, such as ['sklearn.svm']")
    modules = tuple(preload)
    for module in modules:
        if not all(part.isidentifier() for part in str(module).split(".")):
            raise TypeError(f"preload={preload!r}: {module!r} is not the name of a module, such as 'sklearn.svm'")
    if modules and method != "forkserver":
        raise ValueError(
            f"preload={preload!r}: modules can be imported ahead only with mp_context='forkserver', not {method!r}"
        )
    return modules
