"""Leave the results of calls where they were computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk.scheduling.events import take_names
from amltk.scheduling.executors.remote_result import RemoteResult
from amltk.scheduling.plugin import PassingPlugin

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.call import Call

__all__ = ["RemoteResult", "RemoteResults"]


class RemoteResults(PassingPlugin):
    """Leaves the results of a task where they were computed, for the calls that need them.

    ```python
    preparing = scheduler.task(prepare, plugins=RemoteResults())
    training = scheduler.task(train)
    training.submit(preparing.submit("images"))  # gigabytes go from worker to worker, and not through this program
    ```

    `train` receives the value. Callbacks of `@result`, and code that awaits the future, get a `RemoteResult` instead,
    whose `fetch()` brings the value here.

    On Dask, batch systems and Ray the value goes from worker to worker by their own means. On other executors it is
    sent through this program as usual, and everything else is the same. The results of a worker are lost with it: calls
    that need one of them then fail with `WorkerLostError`.

    A run with a journal cannot use it, since it could not record the value.
    """

    name = "remote-results"
    replayable = False

    def prepare(self, call: Call) -> bool:
        """Have the result stay where it is computed."""
        call.function = Leaving(call.function)
        return True


class Leaving:
    """A function whose result stays where it was computed, if the executor can do that.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__qualname__: str = take_names(self, function)
        self.function: Callable[..., Any] = function

    def __call__(self, /, *args: Any, **kwargs: Any) -> RemoteResult[Any]:
        """Compute it."""
        return RemoteResult(self.function(*args, **kwargs))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.function,)
