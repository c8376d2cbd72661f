"""An executor that computes nothing on its own: the test decides when and how each call ends."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Submission:
    """One call that was submitted.

    Attributes:
        fn: The function.
        args: Its arguments.
        kwargs: Its keyword arguments.
        future: The executor's future.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    future: Future[Any] = field(default_factory=Future)


class ManualExecutor(Executor):
    """Keeps each submission until the test starts, finishes or fails it.

    Submissions are numbered from 0, in the order in which they were made; negative numbers count from
    the end. A submission that has not started can be cancelled, as in any executor.

    Attributes:
        submissions: All submissions, ended or not.
        was_shut_down: The arguments of `shutdown`, as `{"wait": ..., "cancel_futures": ...}`; None before that call.
    """

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self.was_shut_down: dict[str, bool] | None = None
        self._broken: str | bool = False

    @property
    def pending(self) -> list[int]:
        """The numbers of the submissions that have not ended."""
        return [n for n, submission in enumerate(self.submissions) if not submission.future.done()]

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Record a call and return its future.

        Raises:
            BrokenExecutor: After `break_down`.
            RuntimeError: After `shutdown`.
        """
        if self._broken:
            raise BrokenExecutor(self._broken)
        if self.was_shut_down is not None:
            raise RuntimeError("this ManualExecutor was shut down")
        self.submissions.append(Submission(fn, args, kwargs))
        return self.submissions[-1].future

    def start(self, n: int) -> None:
        """Mark a submission as running, so that it can no longer be cancelled."""
        self.submissions[n].future.set_running_or_notify_cancel()

    def finish(self, n: int, result: Any = None) -> None:
        """End a submission with the given result. Its function is not called."""
        self.submissions[n].future.set_result(result)

    def compute(self, n: int) -> None:
        """Call the function of a submission now, and end the submission with what it returns or raises."""
        submission = self.submissions[n]
        try:
            result = submission.fn(*submission.args, **submission.kwargs)
        except BaseException as error:  # noqa: BLE001 - belongs to the future
            submission.future.set_exception(error)
        else:
            submission.future.set_result(result)

    def fail(self, n: int, exception: BaseException) -> None:
        """End a submission with an exception."""
        self.submissions[n].future.set_exception(exception)

    def break_down(self, reason: str = "the test broke it") -> None:
        """Break, as a process pool does when a worker dies: all pending calls fail and no more are accepted."""
        self._broken = reason
        for n in self.pending:
            self.fail(n, BrokenExecutor(reason))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Record the call. It never waits, even with `wait`: the test decides when pending calls end."""
        self.was_shut_down = {"wait": wait, "cancel_futures": cancel_futures}
        if cancel_futures:
            for n in self.pending:
                self.submissions[n].future.cancel()
