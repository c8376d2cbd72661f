"""What a run needs to know of its executor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors.sequential import SequentialExecutor
from amltk.scheduling.executors.termination import drop_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from concurrent.futures import Future as Work

    from amltk.scheduling.executors.registry import Capabilities, Terminator


class Backend:
    """An executor for one run, and how it is ended.

    Args:
        executor: Where compute happens.
        capabilities: What it can do.
        terminator: Ends it without waiting; None leaves it open and usable, whatever happens.
        is_own: Whether the terminator is this package's own, and not the user's.
    """

    def __init__(
        self, executor: Executor, capabilities: Capabilities, terminator: Terminator | None, *, is_own: bool
    ) -> None:
        self.executor = executor
        self.capabilities = capabilities
        self.submit: Callable[..., Any] = executor.submit
        self._terminator = terminator
        self.is_own = is_own

    @property
    def kills(self) -> bool:
        """Whether `kill` really kills, and in little time: giving it up half-way would leave processes behind."""
        return self.is_own and self.capabilities.kills_running

    def attach(self, run_step: Callable[[Callable[[], None]], None]) -> None:
        """Begin a run; `run_step` makes steps on the loop's thread for an executor that computes there."""
        if isinstance(self.executor, SequentialExecutor):
            self.executor.attach(run_step)

    def release(self) -> None:
        """End a run."""
        if isinstance(self.executor, SequentialExecutor):
            self.executor.detach()

    def withdraw(self, work: Work[Any]) -> None:
        """Cancel it if it has not begun: what runs is `kill`'s business."""
        if not (self.capabilities.cancels_running and work.running()):
            work.cancel()

    def is_broken(self) -> bool:
        """Whether a `BrokenExecutor` error is the executor's own and not that of a computed function.

        The standard library's executors, and those built on them, note it in `_broken`. Any other is believed.
        """
        return bool(getattr(self.executor, "_broken", True))

    def close(self) -> None:
        """End it after its work is done. May block."""
        if self._terminator is not None:
            self.executor.shutdown(wait=True)

    def kill(self) -> None:
        """End it without waiting for its work. May block for as long as the termination takes."""
        if self._terminator is not None:
            drop_cancelled(self.executor)
            self._terminator(self.executor)
