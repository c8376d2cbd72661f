"""An executor that computes nothing by itself: the test decides what ends when, and how."""

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
    """Keeps what is submitted until the test starts, finishes or fails it.

    Submissions are named by their number, in the order in which they were made, from 0; negative numbers count from
    the end. What was not started can be cancelled, as in any executor.

    Attributes:
        submissions: All that was submitted, ended or not.
        was_shut_down: How `shutdown` was called, as `{"wait": ..., "cancel_futures": ...}`; None if it was not.
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
        """Keep a call.

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
        """Mark a submission as running, so that it cannot be cancelled any more."""
        self.submissions[n].future.set_running_or_notify_cancel()

    def finish(self, n: int, result: Any = None) -> None:
        """End a submission with a result, whatever its function would return."""
        self.submissions[n].future.set_result(result)

    def compute(self, n: int) -> None:
        """End a submission with what its function returns or raises, called here and now."""
        submission = self.submissions[n]
        try:
            result = submission.fn(*submission.args, **submission.kwargs)
        except BaseException as error:  # noqa: BLE001 - it is the future's
            submission.future.set_exception(error)
        else:
            submission.future.set_result(result)

    def fail(self, n: int, exception: BaseException) -> None:
        """End a submission with an exception."""
        self.submissions[n].future.set_exception(exception)

    def break_down(self, reason: str = "the test broke it") -> None:
        """Break, as a process pool does when a worker dies: all that is pending fails and nothing more is accepted."""
        self._broken = reason
        for n in self.pending:
            self.fail(n, BrokenExecutor(reason))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Note the call. With `wait` it does not wait: what is pending is the test's business."""
        self.was_shut_down = {"wait": wait, "cancel_futures": cancel_futures}
        if cancel_futures:
            for n in self.pending:
                self.submissions[n].future.cancel()
