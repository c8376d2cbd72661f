"""What a worker is started with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from amltk.scheduling.executors.process_pool._pickling.main_module import Description


class Start(NamedTuple):
    """What a worker needs to start."""

    path: list[str]
    argv: list[Any]
    program: str
    """Identifies the process that runs the program, see `main_module.begin`."""
    main: Description
    """The description of its `__main__`."""
    directory: str | None
    initialize: bytes | None
    """A pickle of the needed definitions, and of the initializer and its arguments as a call."""
    authkey: bytes
    """The parent's authentication key, with which proxies of a `multiprocessing.Manager` work."""
    variables: tuple[tuple[str, str], ...] = ()
    """The environment variables that say which devices it has."""
    most_memory: int | None = None
    """How many bytes of memory it may have between calls; None for no limit."""
    shares_memory: bool = False
    """Whether results may be put in shared memory."""
    shows_faults: bool = False
    """Whether a crash shows where it happened: whether the program has called `faulthandler.enable()`."""


class Inheritance(NamedTuple):
    """What a worker gets from the process that started it.

    Attributes:
        parent: The pid of that process.
        tracker: The descriptor of the resource tracker, see `resource_tracker`.
        is_copy: Whether the worker is a copy of the user's program, and must not end like it.
    """

    parent: int
    tracker: int
    is_copy: bool
