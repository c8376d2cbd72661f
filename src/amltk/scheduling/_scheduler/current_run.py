"""What a scheduler says of the run in progress, and passes on to it."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, ParamSpec

from amltk._checks import check_seconds
from amltk.exceptions import SchedulerNotRunningError
from amltk.scheduling.events import Channel, Emitter, callback_name, deliver_now
from amltk.scheduling.scheduler_events import SchedulerEvents

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling._loop.timers import Timer
    from amltk.scheduling._run.run import Run
    from amltk.scheduling.call import Call
    from amltk.scheduling.future import Future
    from amltk.types import Duration

P = ParamSpec("P")


class CurrentRun(SchedulerEvents):
    """Knows the run in progress, if there is one. May be used from any thread.

    Owns the reference to the run, which may be gone at any time: each method reads it once. What of a run outlives it
    is here as well: its reason, and the counts over all runs.
    """

    def __init__(self) -> None:
        self._run: Run | None = None
        self._last_end = ""  # why the last run ended
        self._callback_exceptions = 0  # of earlier runs
        super().__init__(Emitter("Scheduler", dispatch=self.dispatch, is_replaying=self.is_replaying))

    def is_replaying(self) -> bool:
        """The same as `replaying`, for what asks later."""
        return self.replaying

    @property
    def replaying(self) -> bool:
        """Whether callbacks are told what an earlier session has recorded."""
        return False

    def running(self) -> bool:
        """Whether submissions are accepted: from `@start` until the end is requested or the timeout is reached."""
        run = self._run
        return run is not None and run.running()

    def empty(self) -> bool:
        """Whether nothing is pending."""
        run = self._run
        return run is None or not run.pending_calls

    @property
    def queue(self) -> list[Future[Any]]:
        """The futures that have not ended, oldest first."""
        run = self._run
        return [] if run is None else sorted(run.pending_calls, key=attrgetter("number"))

    @property
    def n_pending(self) -> int:
        """How many submissions have not ended, whether a worker has begun them or not; counted in constant time."""
        run = self._run
        return 0 if run is None else len(run.pending_calls)

    @property
    def n_running(self) -> int:
        """The same as `n_pending`, under the name that AMLTK has for it."""
        return self.n_pending

    def running_calls(self) -> list[Future[Any]] | None:
        """The futures whose calls a worker has started. May be called from any thread.

        Its cost grows with the number of workers, not with what is pending.

        Returns:
            The futures; their `work` is the executor's own future. None if the executor does not tell: Ray, and
            executors unknown to this package while some hundred calls are pending there.
        """
        run = self._run
        return [] if run is None else run.submissions.running_calls()

    def explain(self, future: Future[Any]) -> str:
        """Why a call is not running yet, or what has become of it, in words. May be called from any thread.

        ```python
        scheduler.explain(future)  # "waits for gpu: 1 wanted, 0 of 2 free; 3 calls before it"
        ```

        Args:
            future: A future that `submit` of this scheduler, or of one of its tasks, has returned.
        """
        run, work = self._run, future.work
        if future.done() or run is None:
            return "has ended" if future.done() else "waits for a run"
        reason = run.submissions.explain(future)
        if reason is not None:
            return reason
        if work is None:
            return "is about to be handed over"
        if run.submissions.is_running(work):
            return "is running"
        return run.submissions.why_waiting(work) or "is with the executor, and waits for a worker"

    @property
    def callback_exceptions(self) -> int:
        """How many exceptions callbacks and plugins have raised, over all runs."""
        run = self._run
        return self._callback_exceptions + (0 if run is None else run.end_requests.callback_exceptions)

    def stop(
        self,
        *args: Any,
        stop_msg: str | None = None,
        exception: BaseException | None = None,
        **kwargs: Any,  # noqa: ARG002 - accepted so that it can be a callback
    ) -> None:
        """Ask the run to end. May be called from any thread, or used as a callback: `task.on_result(scheduler.stop)`.

        From now on `running()` is False and `submit` raises. `@stop` and `@finishing` are delivered, then the endings
        of all pending futures, then `@finished`. If the scheduler is not running, nothing happens.

        Args:
            *args: A single string is the message: `scheduler.stop("good enough")`. Anything else is ignored, so that
                this can be a callback of any event.
            stop_msg: The message, as shown by `@stop`, the log, the display and `ExitState.reason`.
            exception: The cause. The run then ends as `on_exception` decides for this exception: "raise" raises it,
                "end" and "continue" report it in the `ExitState`.
            **kwargs: Ignored.

        Raises:
            TypeError: `exception` is not an exception, or `stop_msg` is not a string.
        """
        if exception is not None and not isinstance(exception, BaseException):
            raise TypeError(f"exception={exception!r}: must be an instance of an exception, or None")
        if stop_msg is not None and not isinstance(stop_msg, str):
            raise TypeError(f"stop_msg={stop_msg!r}: must be a string, or None")
        if stop_msg is None:
            stop_msg = args[0] if len(args) == 1 and isinstance(args[0], str) else ""
        run = self._run
        if run is not None:
            run.end_requests.stop(stop_msg, exception)

    def call_later(self, delay: Duration, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Call `fn(*args, **kwargs)` on the loop's thread after a delay. May be called from any thread during a run.

        The executor is not involved: to compute something, submit it from `fn`. A pending timer does not keep the run
        going; see `end_on_empty`. What `fn` raises goes to `on_callback_exception`.

        Args:
            delay: How long to wait: seconds, a string such as `"1.5 h"`, or a `timedelta`.
            fn: A function, or an `async def`, which is awaited as part of the run.
            *args: The positional arguments of `fn`.
            **kwargs: The keyword arguments of `fn`.

        Returns:
            A handle with `cancel()`.

        Raises:
            SchedulerNotRunningError: Before `@start`, or after the end was requested.
            ValueError: `delay` is negative, infinite or NaN.
            TypeError: `delay` is not a duration, or `fn` is not callable.
        """
        seconds = check_seconds("delay", delay)
        if not callable(fn):
            raise TypeError(f"fn={fn!r}: must be callable")
        run = self._run  # read once, here and below: the run may end on another thread meanwhile
        if run is None:
            raise self._not_started(f"call {callback_name(fn)} later")
        return run.call_later(seconds, fn, args, kwargs)

    def leave(self, why: str) -> None:
        """End the run in the current loop without waiting for compute: its results are no longer needed."""
        run = self._run
        if run is not None:
            run.loop.call_soon(run.end_requests.leave, why)  # takes effect once the run has begun

    def has_run(self) -> bool:
        """Whether there is a run, even one that is ending."""
        return self._run is not None

    def find_run(self) -> Run | None:
        """The run, even one that is ending; None if there is none."""
        return self._run

    def is_elsewhere(self) -> bool:
        """Whether the scheduler is running in a thread other than the caller's."""
        run = self._run
        return run is not None and run.running() and not run.is_here()

    @property
    def current_run(self) -> Run:
        """The current run, for plugins that need more of it than its events.

        Raises:
            SchedulerNotRunningError: There is no run.
        """
        run = self._run
        if run is None:
            raise self._not_started("use the run")
        return run

    def report(self, error: Exception, where: str) -> None:
        """Apply `on_callback_exception` to an error of a plugin that no caller can catch.

        May be called from any thread.

        Raises:
            Exception: `error` itself, if there is no run.
        """
        run = self._run
        if run is None:
            raise error
        run.report(error, where)

    def dispatch(self, channel: Channel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Deliver an event of the scheduler or of one of its tasks: through the run if there is one, else at once."""
        run = self._run
        if run is None:
            deliver_now(channel, args, kwargs)
        else:
            run.dispatch(channel, args, kwargs)

    def check_running(self, what: str) -> None:
        """Raise a `SchedulerNotRunningError` saying that `what` cannot be done, unless the scheduler is running."""
        run = self._run
        if run is None:
            raise self._not_started(what)
        run.lifecycle.check_running(what)

    def check_offer(self, call: Call) -> Future[Any] | None:
        """The same before a call goes through the plugins of its task.

        Returns:
            Its future if it goes through them later: it is submitted from another thread, and there is a journal.

        Raises:
            JournalUnsupportedError: There is a journal, and another thread offers a call again that a plugin has kept.
        """
        run = self._run
        if run is None:
            raise self._not_started(f"submit {call.task.name}")
        return run.check_offer(call)

    def check_change(self, what: str) -> None:
        """Raise a `JournalUnsupportedError` if there is a journal and this is no callback: nothing would record it."""
        run = self._run
        if run is not None and run.is_recorded:
            from amltk.scheduling._run.journaled.run import JournaledRun  # loaded with the first journal only

            assert isinstance(run, JournaledRun)
            run.check_change(what)

    def _not_started(self, what: str) -> SchedulerNotRunningError:
        if self._last_end:
            return SchedulerNotRunningError(
                f"cannot {what}: the scheduler is no longer running, its last run has ended ({self._last_end});"
                " guard it with `if scheduler.running():`, or do it in a callback of @start (scheduler.on_start) or of"
                " a later event of another run"
            )
        return SchedulerNotRunningError(
            f"cannot {what}: the scheduler is not running; do it in a callback of @start (scheduler.on_start) or of a"
            " later event, and call scheduler.run()"
        )
