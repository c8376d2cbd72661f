"""Everything that can end a run arrives here: `stop`, timeouts, signals, errors."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from amltk._notes import add_note, safe_repr
from amltk._shield import shielded
from amltk.exceptions import ExecutorBrokenError
from amltk.scheduling._run.policy import ends_program
from amltk.scheduling.exit_state import ExitState

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import BrokenExecutor

    from amltk.scheduling._run.context import RunContext

_log = logging.getLogger(__name__)

Code = ExitState.Code


class EndRequests:
    """Decides by the user's policies whether something ends the run, and has the end announced, once.

    Owns the counts of interruptions and of exceptions of callbacks. `request`, `fail`, `stop` and `leave` may be called
    from any thread and by signal handlers; everything else on the loop's thread.

    Args:
        context: The run.
        announce: Called as an input, with the message and the exception, after the first request.

    Attributes:
        callback_exceptions: How many exceptions callbacks and plugins have raised.
        insisted: Whether the run was interrupted a second time: from then on nothing is waited for.
        explains_losses: Whether a lost worker is due to the end of this run.
        signalled: What a signal handler has raised in user code; None if nothing.
    """

    def __init__(self, context: RunContext, announce: Callable[[str, BaseException | None], None]) -> None:
        self._lifecycle = context.lifecycle
        self._inbox = context.inbox
        self._options = context.options
        self._backend = context.backend
        self._announce = announce
        self._interrupts = 0
        self._cancellations = 0
        self.callback_exceptions: int = 0
        self.insisted: bool = False
        self.explains_losses: bool = False
        self.signalled: BaseException | None = None

    @property
    def n_interruptions(self) -> int:
        """How many times the run was interrupted from outside."""
        return self._interrupts + self._cancellations

    # ------------------------------------------------------------------ from any thread

    def request(
        self, code: ExitState.Code, message: str = "", exception: BaseException | None = None, *, abandon: bool = False
    ) -> None:
        """Request the end. Only the first request is announced.

        Args:
            code: The reason.
            message: The reason in words; empty for none.
            exception: The exception for the callbacks of `@stop`.
            abandon: End without waiting for compute.
        """
        if self._lifecycle.request(code, message, abandon=abandon):
            self._inbox.put_and_wake(self._announce, message, exception)
        else:
            self._inbox.wake()  # the run may wait for less now; an input would count as a delivery

    def fail(self, message: str, error: BaseException, *, raises: bool, abandon: bool = False) -> bool:
        """End because of an error. False if the error was not kept because there is an earlier one."""
        kept = self._lifecycle.keep(error, raises=raises)
        self.request(Code.EXCEPTION, message, error, abandon=abandon)
        return kept

    @shielded
    def stop(self, message: str, exception: BaseException | None) -> None:
        """Carry out `Scheduler.stop`."""
        if exception is None:
            self.request(Code.STOPPED, message)
        elif not self.fail(
            message,
            exception,
            raises=ends_program(exception) or self._options.on_exception.decide(exception) == "raise",
            abandon=ends_program(exception),
        ):
            _log.error("stop() was called with an exception while the run was ending", exc_info=exception)

    def leave(self, why: str) -> None:
        """End without waiting for compute: the code that drove the run is gone."""
        self.request(Code.STOPPED, why, abandon=True)

    # ------------------------------------------------------------------ on the loop's thread

    def interrupt(self, exception: BaseException) -> None:
        """End at once, because of a signal or a cancellation; from the second time on, without waiting for anything.

        One Ctrl-C may both reach the run and cancel the task that awaits it, so signals and cancellations are counted
        separately.
        """
        if isinstance(exception, asyncio.CancelledError):
            self._cancellations += 1
        else:
            self._interrupts += 1
            self.explains_losses = True  # a terminal sends Ctrl-C to the workers as well
        self._note_insisting()
        self.end_at_once(exception)

    def end_at_once(self, error: BaseException) -> None:
        """The same without counting it: for a cancellation that no user has asked for."""
        self.fail(f"interrupted by {safe_repr(error)}", error, raises=True, abandon=True)

    def _note_insisting(self) -> None:
        self.insisted = max(self._interrupts, self._cancellations) > 1

    def begin_to_abandon(self) -> None:
        """Note that what is pending is about to be cancelled and killed."""
        self._lifecycle.abandoning = True

    def expect_losses(self) -> None:
        """Note that workers are about to be killed: calls that are lost from now on count as cancelled."""
        self.explains_losses = True

    def call_failed(self, error: BaseException, label: str, *, raises: bool) -> None:
        """End, since a call has raised this.

        Args:
            error: The exception.
            label: The call.
            raises: Whether `run` raises it.
        """
        add_note(error, f"raised by the call {label}")
        self.fail(f"{label} raised {safe_repr(error)}", error, raises=raises)

    def callback_failed(self, error: BaseException, where: str) -> None:
        """React to what a callback or a plugin has raised.

        Args:
            error: The exception.
            where: What has raised it, for messages: "callback f of @start".
        """
        if error is self._lifecycle.cause.exception:
            return  # it also escaped from the loop, or was given to stop()
        self.callback_exceptions += 1
        abandon = ends_program(error)
        if abandon and isinstance(error, KeyboardInterrupt):
            self._interrupts += 1  # Ctrl-C during a callback
            self._note_insisting()
        self.explains_losses = self.explains_losses or abandon
        reaction = "raise" if abandon else self._options.on_callback_exception.decide(error)
        if reaction == "continue":
            _log.error("%s raised, and the run goes on", where, exc_info=error)
            return
        add_note(error, f"raised by the {where}")
        message = f"the {where} raised {safe_repr(error)}"
        if not self.fail(message, error, raises=reaction == "raise", abandon=abandon):
            _log.error("%s raised while the run was ending", where, exc_info=error)

    def attempt(self, step: Callable[[], object], where: str) -> None:
        """Call a plugin; what it raises is treated as `callback_failed` does."""
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - reported to the policy
            self.callback_failed(error, where)

    def executor_broke(self, error: BrokenExecutor) -> None:
        """End the run under any policy: a broken executor would fail everything that is submitted."""
        lifecycle = self._lifecycle
        known = isinstance(lifecycle.cause.exception, ExecutorBrokenError)
        if self._backend.is_broken() and not lifecycle.abandoning and not known:
            executor = safe_repr(self._backend.executor)
            broken = ExecutorBrokenError(f"{executor} is broken and computes nothing more: {error}")
            broken.__cause__ = error
            self.fail(str(broken), broken, raises=True, abandon=True)

    def crashed(self, error: BaseException) -> None:
        """End instead of hanging: a step of the run itself was torn by a user's signal handler or by a defect."""
        self.fail(f"the run was interrupted by {safe_repr(error)}", error, raises=True, abandon=True)
