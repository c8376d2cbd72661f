"""Limit the resources of a call with pynisher."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import threading
import time
import traceback
from contextlib import contextmanager
from functools import partial
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any, Literal

from amltk import _compat, _extras
from amltk._checks import check_seconds
from amltk.scheduling.events import Event
from amltk.scheduling.plugin import PassingPlugin
from amltk.scheduling.plugins.wrapping import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext

    from amltk.scheduling.call import Call, Outcome
    from amltk.types import Duration

_ANSWER_SECONDS = 1.0
"""How many seconds a process may take to end after its call."""

_numbers = itertools.count()


def _pynisher() -> Any:
    return _extras.load("pynisher", needs="pynisher", extra="plugins")


class _Error:
    """An exception class of pynisher, imported on first access."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> type[Exception]:
        error: type[Exception] = getattr(_pynisher(), self._name)
        return error


class PynisherPlugin(PassingPlugin):
    """Limits what a call may use, by [pynisher](https://github.com/automl/pynisher), for programs that use it already.

    `Limits` does the same without another library, ends a call at once, and allows limits below one second.

    pynisher computes each call in a process of its own, which the worker starts and, at a limit, ends. So the workers
    must be able to start processes; `Scheduler.with_processes` suits best. With threads of one process, use it only
    with `context="spawn"` or `"forkserver"`, since a process with threads must not be forked.

    A call that reaches a limit fails with one of pynisher's errors, which are attributes of this class. Its event comes
    before the call's `@exception`.

    Args:
        memory_limit: Bytes, or a number and a unit as in `(2, "GB")`: `"B"`, `"KB"`, `"MB"` or `"GB"` (1024³ bytes);
            None for no limit. What is limited is the address space, which is larger than what is used.
        cputime_limit: Seconds of CPU, at least 1, a text such as `"1.5 h"`, a `timedelta`, or a number and a unit as in
            `(1.5, "h")`: `"s"`, `"m"` or `"h"`; pynisher rounds to whole seconds; None for no limit.
        walltime_limit: The same of time that passes.
        context: How the process is started: `"fork"`, `"spawn"`, `"forkserver"` or a context of multiprocessing; None
            for Python's default, which on Linux is `"fork"` before CPython 3.14 and `"forkserver"` from then on. All
            but `"fork"` need a function from an importable module, not from the program's `__main__`.
        disable_trial_handling: Accepted so that older programs run, and ignored: there are no trials here.

    Raises:
        MissingExtraError: pynisher is not installed. Workers need it too.
        ValueError: A limit is too small or has an unknown unit, or the context is unknown.
        RuntimeError: This system does not support the limit; see `supports`.
    """

    name = "pynisher-plugin"

    TIMEOUT: Event[[Exception], Any] = Event("pynisher-timeout")
    """A call reached a time limit. Callbacks take the error; the event of the specific limit follows."""

    MEMORY_LIMIT_REACHED: Event[[Exception], Any] = Event("pynisher-memory-limit")
    """A call reached `memory_limit`. Callbacks take the error."""

    CPU_TIME_LIMIT_REACHED: Event[[Exception], Any] = Event("pynisher-cputime-limit")
    """A call reached `cputime_limit`. Callbacks take the error."""

    WALL_TIME_LIMIT_REACHED: Event[[Exception], Any] = Event("pynisher-walltime-limit")
    """A call reached `walltime_limit`. Callbacks take the error."""

    PynisherException: _Error = _Error("PynisherException")
    """The base class of pynisher's errors."""

    TimeoutException: _Error = _Error("TimeoutException")
    """The base class of the two time limit errors."""

    MemoryLimitException: _Error = _Error("MemoryLimitException")
    """A call reached `memory_limit`."""

    CpuTimeoutException: _Error = _Error("CpuTimeoutException")
    """A call reached `cputime_limit`."""

    WallTimeoutException: _Error = _Error("WallTimeoutException")
    """A call reached `walltime_limit`."""

    def __init__(
        self,
        *,
        memory_limit: int | tuple[float, str] | None = None,
        cputime_limit: Duration | tuple[float, str] | None = None,
        walltime_limit: Duration | tuple[float, str] | None = None,
        context: BaseContext | str | None = None,
        disable_trial_handling: bool = False,  # noqa: ARG002 - see above
    ) -> None:
        self.memory_limit: int | tuple[float, str] | None = memory_limit
        self.cputime_limit: Duration | tuple[float, str] | None = cputime_limit
        self.walltime_limit: Duration | tuple[float, str] | None = walltime_limit
        self.context: str | None = (
            context if isinstance(context, str | None) else context.get_start_method()  # a name can be sent
        )
        limits = {
            "memory": memory_limit,
            "cpu_time": _time("cputime_limit", cputime_limit),
            "wall_time": _time("walltime_limit", walltime_limit),
        }
        self._limits: dict[str, Any] = {kind: limit for kind, limit in limits.items() if limit is not None}
        for kind in self._limits:
            if not _pynisher().supports(kind):
                raise RuntimeError(f"pynisher cannot limit the {kind.replace('_', ' ')} of a process on this system")
        try:
            _pynisher().Pynisher(_check, context=self.context, **self._limits)  # it checks its arguments at once
        except KeyError as error:
            raise ValueError(
                f"PynisherPlugin knows no unit {error}: see its arguments for those of each limit"
            ) from None

    @classmethod
    def supports(cls, kind: Literal["wall_time", "cpu_time", "memory"]) -> bool:
        """Whether this system supports the limit."""
        supported: bool = _pynisher().supports(kind)
        return supported

    def events(self) -> list[Event[..., Any]]:
        """The four events above."""
        return [self.TIMEOUT, self.MEMORY_LIMIT_REACHED, self.CPU_TIME_LIMIT_REACHED, self.WALL_TIME_LIMIT_REACHED]

    def prepare(self, call: Call) -> bool:
        """Compute the call within the limits."""
        if self._limits:
            call.function = _Limited(call.function, partial(_limiter, {"context": self.context, **self._limits}))
            call.on_outcome(partial(self._tell, call))
        return True

    def _tell(self, call: Call, outcome: Outcome) -> None:
        error = outcome.error
        if isinstance(error, self.TimeoutException):
            call.task.emit(self.TIMEOUT, error)
        if isinstance(error, self.CpuTimeoutException):
            call.task.emit(self.CPU_TIME_LIMIT_REACHED, error)
        elif isinstance(error, self.WallTimeoutException):
            call.task.emit(self.WALL_TIME_LIMIT_REACHED, error)
        elif isinstance(error, self.MemoryLimitException):
            call.task.emit(self.MEMORY_LIMIT_REACHED, error)

    def status(self) -> str:
        """The limits as given."""
        return " · ".join(f"{kind.replace('_', ' ')} {limit}" for kind, limit in self._limits.items())


class _Limited(Wrapper):
    """A function that pynisher calls in a process that the worker starts."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        with self.around() as limit:
            try:
                return limit(Wrapper(self.function, _until_sigterm))(*args, **kwargs)
            except BaseException as error:
                traceback.clear_frames(error.__traceback__)  # pynisher's frames hold the pipes to its process
                raise


@contextmanager
def _limiter(options: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """Apply pynisher's limits, and clean up what it leaves behind: its process, and a handler in the main thread."""
    name = f"pynisher-{next(_numbers)}"
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    settings = _compat.process_settings()
    daemon = settings.get("daemon", False)
    try:
        settings["daemon"] = False  # a daemonic process, such as a Dask worker, may start none; ended below
        yield partial(_pynisher().Pynisher, name=name, **options)
    finally:
        settings["daemon"] = daemon
        for process in multiprocessing.active_children():
            if process.name == name:
                process.join(_ANSWER_SECONDS)
                # pynisher has reaped it, so multiprocessing never learns that it has ended, and would keep it and two
                # descriptors per call forever.
                _compat.child_processes().discard(process)
        if in_main:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _until_sigterm() -> Iterator[None]:
    """Make pynisher's process end on SIGTERM, which follows its answer, and not earlier.

    With pynisher's own handler the process would outlive the signal by five seconds. And if the process ended on its
    own between pynisher's check for an answer and its check whether the process is alive, pynisher would report that
    there was no answer.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Finalize(None, time.sleep, (_ANSWER_SECONDS,), exitpriority=0)
    yield


def _time(name: str, limit: Duration | tuple[float, str] | None) -> int | tuple[float, str] | None:
    """A limit of time as pynisher takes it."""
    if limit is None or isinstance(limit, tuple):
        return limit
    seconds = check_seconds(name, limit, above_zero=True)
    return int(seconds) if seconds.is_integer() else (seconds, "s")


def _check() -> None:
    """A stand-in for the function when pynisher checks its arguments."""
