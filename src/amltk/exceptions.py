"""Every error that this package raises on its own account.

A wrong value or type given to a call raises the built-in `ValueError` or `TypeError`; the classes here are for what
only a scheduler can say.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, CancelledError


class SchedulerError(Exception):
    """Base of the errors of this package."""


class SchedulerNotRunningError(SchedulerError, RuntimeError):
    """Something was asked of a scheduler that only a running one can do.

    Raised by `submit` and `call_later` before `@start` and from the moment a stop was asked for. It does not mean that
    work which was accepted earlier is lost: that work still ends with its events.
    Remedy: submit from a callback of `@start` or a later event, and guard with `if scheduler.running():`.
    """


class SchedulerRunningError(SchedulerError, RuntimeError):
    """A second run was asked of a scheduler while it is running.

    Remedy: wait for the first run, or use another `Scheduler` (two of them may run at once in one loop).
    """


class NestingError(SchedulerError, RuntimeError):
    """Something was started where it would start itself without end.

    Raised by `run`, by the first submission to a `ProcessPool` and by the start of a process of `multiprocessing` while
    a worker imports the module that does it: workers import modules for what these define. Remedy: put what the
    program itself does under `if __name__ == "__main__":`. Functions that a call runs may start schedulers.

    Also raised for a scheduler in a worker of a scheduler in a worker, and so on, 8 levels below the program. Remedy:
    set the environment variable `AMLTK_MAX_DEPTH`, if that many are meant.
    """


class EventNotKnownError(SchedulerError, ValueError):
    """The name of an event was given that this emitter does not have.

    The message lists the names that it does know.
    """


class ExecutorBrokenError(SchedulerError, BrokenExecutor):
    """The executor can compute nothing any more, so the run ended, whatever `on_exception` says.

    It is not raised for an error of the computed function. `__cause__` holds what the executor said.
    """


class ExecutorShutdownError(SchedulerError, RuntimeError):
    """The executor given to `Scheduler(executor)` was shut down, for instance by an earlier run.

    Remedy: use a factory such as `Scheduler.with_processes()`, which makes a fresh executor for each run, or
    `terminate=False`, which leaves the executor open.
    """


class FutureCancelledError(SchedulerError, CancelledError):
    """A future was cancelled by someone other than the closing run, with `on_cancelled="raise"`."""


class MissingExtraError(SchedulerError, ImportError):
    """A feature needs a library that is not installed; the message is the pip command."""


class PoolBrokenError(SchedulerError, BrokenExecutor):
    """An executor of this package can compute nothing any more, and all its calls fail with this.

    A `ProcessPool` breaks when its workers fail to begin, one after the other: `__cause__` has the traceback of an
    initializer that has raised. Or when the system can start no process for some time, and there is none that goes on:
    `__cause__` is what the system has said. Or when a handler of signals raises in the midst of the pool's own work. An
    executor over Dask or Ray breaks when the connection is lost.

    It is not raised for a worker that was lost: that costs one call, which fails with `WorkerLostError`.
    """


class WorkerLostError(SchedulerError, RuntimeError):
    """The process that computed a call was killed, crashed or exited. Other calls are not concerned.

    Attributes:
        pid: The process, or None.
        exit_code: Its exit code; a negative one is a signal; None if it is not known.
    """

    pid: int | None = None
    exit_code: int | None = None


class TaskLimitError(SchedulerError):
    """A call used more than it was allowed to, and was ended.

    Attributes:
        limit: What was allowed, in seconds or bytes.
        used: What was used when that was noticed.
        pid: The worker that was ended.
    """

    def __init__(self, message: str = "", *, limit: float = 0.0, used: float = 0.0) -> None:
        super().__init__(message)
        self.limit = limit
        self.used = used
        self.pid: int | None = None


class WallTimeLimitError(TaskLimitError, TimeoutError):
    """A call took longer than its `wall_time`."""


class CpuTimeLimitError(TaskLimitError):
    """A call used more CPU than its `cpu_time`."""


class MemoryLimitError(TaskLimitError, MemoryError):
    """A call used more memory than its `memory`."""


class CommError(SchedulerError):
    """Base of what goes wrong between a running call and the callbacks that it talks to."""


class CommConnectError(CommError, ConnectionError):
    """A call could not be connected with its run: nobody is there, or nobody who could prove to be the run.

    It is raised by `comm.open()`, in the worker. `__cause__` is what the system said, where it did.
    Remedy: give `Comm.Plugin(interface=...)` where workers are on other machines.
    """


class CommClosedError(CommError, ConnectionError):
    """A comm was used that is not open, or whose other side is gone.

    In the worker: before `comm.open()`, after its end, or when the run has ended or the call was cancelled. In a
    callback: after the call has closed its comm or has ended.
    """


class CommTimeoutError(CommError, TimeoutError):
    """Nothing came in the seconds that a call was ready to wait. The comm can be used further."""


class CloseRequestError(CommError, RuntimeError):
    """A call is asked to come to its end: its request is not going to be answered, or a callback has closed its comm.

    A request is not answered if nobody has subscribed to `@comm-request`, if a callback has raised, or if all have
    let go of the message without a response. Remedy: return; or catch it, where the call can do without.
    """


class RemoteError(SchedulerError):
    """Stands for an exception of a worker that could not be brought here; the message has its type and text."""


class RemoteTraceback(Exception):  # noqa: N818 - it is the cause of an error, and only text
    """The traceback that an exception had in the worker, as text.

    Attributes:
        tb: The text; named as in the standard library's pool.
    """

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'
