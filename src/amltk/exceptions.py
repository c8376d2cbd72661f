"""All errors that this package defines.

An argument of the wrong value or type raises the built-in `ValueError` or `TypeError`; the classes here are for errors
specific to a scheduler.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, CancelledError


class SchedulerError(Exception):
    """Base class of this package's errors."""


class SchedulerNotRunningError(SchedulerError, RuntimeError):
    """An operation needs a running scheduler, and this one is not running.

    Raised by `submit` and `call_later` before `@start`, and after a stop was requested. Work accepted earlier is not
    lost: it still ends with its events.
    Remedy: submit from a callback of `@start` or a later event, and guard with `if scheduler.running():`.
    """


class SchedulerRunningError(SchedulerError, RuntimeError):
    """A scheduler was started while it was already running.

    Remedy: wait for the first run, or use another `Scheduler` (two can run at once in one loop).
    """


class NestingError(SchedulerError, RuntimeError):
    """Something was started that would start itself again without end.

    Raised by `run`, by the first submission to a `ProcessPool`, and by starting a process of `multiprocessing`, in a
    module that a worker is importing: workers import modules for the definitions in them. Remedy: put the program's own
    actions under `if __name__ == "__main__":`. Functions that a call runs may start schedulers.

    Also raised when schedulers are nested, each in a worker of the one above, 8 levels below the program. Remedy: if
    such nesting is intended, set the environment variable `AMLTK_MAX_DEPTH`.
    """


class EventNotKnownError(SchedulerError, ValueError):
    """This emitter has no event of the given name.

    The message lists the names of its events.
    """


class ExecutorBrokenError(SchedulerError, BrokenExecutor):
    """The executor can no longer compute, so the run ended, whatever `on_exception` says.

    Not raised for an error of the computed function. `__cause__` is the executor's own error. `with_dask` and
    `with_ray` raise it themselves if nothing answers at the given address.
    """


class ExecutorShutdownError(SchedulerError, RuntimeError):
    """The executor given to `Scheduler(executor)` has been shut down, for example by an earlier run.

    Remedy: use a factory such as `Scheduler.with_processes()`, which creates a new executor for each run, or
    `terminate=False`, which leaves the executor open.
    """


class FutureCancelledError(SchedulerError, CancelledError):
    """A future was cancelled by something other than the end of the run, and `on_cancelled="raise"` was set.

    It is also the `__cause__` of a `DependencyError` that follows from a cancellation.
    """


class DependencyError(SchedulerError, RuntimeError):
    """A call was not computed, since a call whose result is among its arguments has none.

    `__cause__` is what that call has raised, or a `FutureCancelledError` if it was cancelled. If it was not computed
    either, this is about the call where it began, and so is `__cause__`.

    It comes as the outcome of the call that needs the result, in `@exception`; `submit` does not raise it. A `Retry`
    makes no other attempt. The policies `on_exception` and `on_cancelled` have been applied to the call where it began,
    and are not applied again, unless `on_exception` is a mapping that has `DependencyError` among its keys.

    Attributes:
        number: The number of the call where it began.
    """

    def __init__(self, message: str = "", *, number: int = -1) -> None:
        super().__init__(message)
        self.number = number


class SharedObjectError(SchedulerError, RuntimeError):
    """A shared object is needed, but is not available.

    Its handle or its scheduler was closed, or the process that shared it is gone. Remedy: close the handle only after
    the calls that need the object have begun.
    """


class MissingExtraError(SchedulerError, ImportError):
    """A feature needs a library that is not installed; the message gives the pip command."""


class PoolBrokenError(SchedulerError, BrokenExecutor):
    """An executor of this package can compute nothing any more, and all its calls fail with this.

    A `ProcessPool` breaks when its workers fail to begin, one after the other: `__cause__` has the traceback of an
    initializer that has raised. Or when the system can start no process for some time, and there is none that goes on:
    `__cause__` is what the system has said. Or when a handler of signals raises in the midst of the pool's own work. An
    executor over Dask or Ray breaks when the connection is lost, or when it has no worker within `worker_timeout`. One
    over the jobs of a batch system breaks when three jobs in succession fail to start and no worker is up.

    It is not raised for a worker that was lost: that costs one call, which fails with `WorkerLostError`.
    """


class WorkerLostError(SchedulerError, RuntimeError):
    """The process that computed a call was killed, crashed or exited. Other calls are not affected.

    On the jobs of a batch system a subclass says why, where that is known: `WorkerPreemptedError`,
    `WorkerOutOfTimeError`, `WorkerOutOfMemoryError`, `WorkerNodeFailedError`.

    Attributes:
        pid: The process ID, or None if unknown.
        exit_code: The exit code; negative for a signal; None if unknown.
    """

    pid: int | None = None
    exit_code: int | None = None


class WorkerPreemptedError(WorkerLostError):
    """The batch system took the worker's machine for another job: it has ended or requeued the worker's job."""


class WorkerOutOfTimeError(WorkerLostError):
    """The batch system ended the worker's job, since that reached its time limit.

    Remedy: give jobs a longer `walltime`, or have calls that need longer than what is left not begin: `needs_time=`.
    """


class WorkerOutOfMemoryError(WorkerLostError, MemoryError):
    """The worker or its job was ended, since it used more memory than it was given.

    Remedy: give jobs more `memory`, or have fewer calls share one.
    """


class WorkerNodeFailedError(WorkerLostError):
    """The machine of the worker has failed, as the batch system says."""


class JobRefusedError(SchedulerError, RuntimeError):
    """Slurm has refused the job of a call; the message shows what `sbatch` has said. Other calls are not affected.

    Other tries will be refused as well: ask for a partition, a time and an amount of memory that there are.
    """


class ResourceUnavailableError(SchedulerError, ValueError):
    """A call asks for resources that can never be granted: there is no such pool, or it has less in all.

    Raised by `submit`. Where amounts depend on the attempt, it is what the call ends with. Remedy: ask for less in
    `Resources(...)`, or give the scheduler more by `resources={...}`.
    """


class TaskLimitError(SchedulerError):
    """A call exceeded one of its limits and was ended.

    Attributes:
        limit: The limit, in seconds or bytes.
        used: The usage when that was noticed.
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
    """A call used more CPU time than its `cpu_time`."""


class MemoryLimitError(TaskLimitError, MemoryError):
    """A call used more memory than its `memory`."""


class CommError(SchedulerError):
    """Base class of errors in the communication between a running call and its callbacks."""


class CommConnectError(CommError, ConnectionError):
    """A call could not connect to its run: nothing answered, or the peer could not prove that it is the run.

    Raised by `comm.open()`, in the worker. `__cause__` is the operating system's error, if there is one.
    Remedy: set `Comm.Plugin(interface=...)` if workers are on other machines.
    """


class CommClosedError(CommError, ConnectionError):
    """A comm was used that is not open, or whose peer is gone.

    In the worker: before `comm.open()`, after `comm.close()`, or after the run ended or the call was cancelled. In a
    callback: after the call has closed its comm or has ended.
    """


class CommTimeoutError(CommError, TimeoutError):
    """Nothing arrived within the given timeout. The comm remains usable."""


class CloseRequestError(CommError, RuntimeError):
    """A call is asked to finish: its request will not be answered, or a callback has closed its comm.

    A request is not answered if nothing is subscribed to `@comm-request`, if a callback raised, or if all callbacks
    dropped the message without responding. Remedy: return; or catch the error if the call can continue without an
    answer.
    """


class JournalError(SchedulerError):
    """The journal of an experiment cannot be made, read or written; the message names its folder and says why.

    Base class of the errors of `amltk.journal`. What was written before is not lost: whatever the reason was, once it
    is removed, the program can be started again.
    """


class JournalLockedError(JournalError):
    """Another process uses the journal; one process at a time may write to it.

    Attributes:
        host: The name of the machine that this process is on; None if it is not known.
        pid: Its process ID; None if it is not known.
    """

    def __init__(self, message: str = "", *, host: str | None = None, pid: int | None = None) -> None:
        super().__init__(message)
        self.host = host
        self.pid = pid


class JournalDamagedError(JournalError):
    """Something in the journal is not what was written there, and it is not the end of what a killed process wrote.

    An incomplete end is no damage: it is left out, and cut off when the program goes on.
    Remedy: `amltk repair FOLDER` keeps what precedes the damage, and puts the rest aside.

    Attributes:
        offset: Where the damaged record begins in `journal.log`, in bytes.
        number: The number of that record.
    """

    def __init__(self, message: str = "", *, offset: int = 0, number: int = 0) -> None:
        super().__init__(message)
        self.offset = offset
        self.number = number


class JournalVersionError(JournalError):
    """The journal was written by a newer version of this package, in a format that this one does not know.

    Remedy: use that version, or a newer one.
    """


class JournalWriteError(JournalError):
    """Something could not be written to the journal, for example since the disk is full; `__cause__` says why.

    What had been written before is whole. What is still to be written stays in memory: a later `flush` tries again.
    """


class CallFolderError(SchedulerError, RuntimeError):
    """`call_folder` was called where no call is computed that has a folder.

    Remedy: `scheduler.task(train, plugins=CallFolder("search"))`, and call it within the function.
    """


class JournalMismatchError(JournalError):
    """The program, started again, does something else than what its journal has recorded.

    Nothing was computed, and the journal is as it was. The message shows what was recorded and what is done now.
    Usual reasons: a random generator without a seed (`scheduler.random` has one), the order of a set, a file that has
    changed, the clock (`scheduler.now` tells the recorded time), another number of workers for a map without
    `in_flight`, or a change of the program. Remedy: undo it, or begin a new folder; `Journal(folder,
    on_mismatch="branch")` keeps what precedes the difference and goes on from there.

    Attributes:
        recorded: What was recorded, as a short text.
        given: What the program does now, likewise.
    """

    def __init__(self, message: str = "", *, recorded: str = "", given: str = "") -> None:
        super().__init__(message)
        self.recorded = recorded
        self.given = given


class JournalUnsupportedError(JournalError):
    """A run with a journal does something that cannot be recorded, so that a restart could not repeat it.

    The message names it. What was recorded before is whole.
    """


class RemoteError(SchedulerError):
    """Replaces a worker's exception that could not be transferred; the message has its type and text."""


class RemoteTraceback(Exception):  # noqa: N818 - only the textual cause of an error
    """The traceback that an exception had in the worker, as text.

    Attributes:
        tb: The text; the standard library's pool uses the same name.
    """

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'
