"""How the workers of a pool are started and ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from amltk.scheduling.executors.process_pool.initializing import Initializer

AUTO: Literal["auto"] = "auto"
"""Import ahead what calls turn out to need."""

EXIT_SECONDS = 10.0
"""How long a worker may take to end."""


@dataclass(frozen=True)
class WorkerOptions:
    """See `ProcessPool`, whose arguments these are.

    Attributes:
        method: How workers are started, one of `starters.METHODS`.
        directory: Where they begin; None where this process began to have no folder.
        initialize: What each worker calls first; or None.
        preload: The modules that are imported ahead, or `AUTO`.
        exit_timeout: Seconds that a worker may take to end.
    """

    method: str
    directory: str | None = None
    initialize: Initializer | None = None
    preload: tuple[str, ...] | Literal["auto"] = AUTO
    exit_timeout: float = EXIT_SECONDS


def check_preload(preload: Iterable[str] | Literal["auto"] | None, method: str) -> tuple[str, ...] | Literal["auto"]:
    """What `preload=` means.

    Raises:
        TypeError: It is no collection of names.
        ValueError: It names modules, and there is no process that could import them ahead.
    """
    if preload is None or (isinstance(preload, str) and preload == AUTO):
        return AUTO
    if isinstance(preload, str | bytes) or not isinstance(preload, Iterable):
        raise TypeError(
            f"preload={preload!r}: must be 'auto' or a list of the names of modules, such as ['sklearn.svm']"
        )
    modules = tuple(preload)
    for module in modules:
        if not all(part.isidentifier() for part in str(module).split(".")):
            raise TypeError(f"preload={preload!r}: {module!r} is not the name of a module, such as 'sklearn.svm'")
    if modules and method != "forkserver":
        raise ValueError(
            f"preload={preload!r}: modules are imported ahead with mp_context='forkserver' only, not {method!r}"
        )
    return modules
