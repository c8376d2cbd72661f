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


class EventNotKnownError(SchedulerError, ValueError):
    """A name or an `Event` was given that this emitter does not emit.

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
