"""Ctrl-C and SIGTERM: they end the runs that are going on in order, and take effect afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from types import FrameType


INSISTING = 3
STUCK_SECONDS = 0.05
"""How many signals have to come, and within how many seconds at least, while the run hears of none of them, until one
is raised although no callback is being called."""


NOTING = frozenset({"asyncio.unix_events", "uvloop.loop", "uvicorn.server"})
"""Modules whose handlers only take note of a signal: asyncio's and uvloop's loops, and uvicorn."""


class Interruptible(Protocol):
    """A run, as a signal handler sees it."""

    @property
    def in_user_code(self) -> bool:
        """Whether one of its callbacks is being called right now."""
        ...

    @property
    def interrupted(self) -> bool:
        """Whether an interruption has reached it."""
        ...

    @property
    def n_interruptions(self) -> int:
        """How many have."""
        ...

    def interrupt_from_signal(self, exception: BaseException) -> None:
        """End in order; called by a signal handler."""

    def raise_from_signal(self, exception: BaseException) -> None:
        """Note that a signal handler is about to raise this in its callback."""


class WakeUp:
    """Has signals wake a loop.

    Without it a signal that comes right before the loop begins to wait is handled after the wait, which may be long.

    Args:
        loop: The loop, on the main thread. Nothing is done for one that is woken already, or cannot read sockets.
        is_alone: Whether nobody else is to be woken by signals; otherwise what was set up to be woken is left to it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, is_alone: bool) -> None:
        self._loop = loop
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._previous = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._is_set = True
        try:
            loop.add_reader(self._reader, self._pass_on)
        except NotImplementedError:
            self.close()
        else:
            if self._previous != -1 and not is_alone:
                self.close()

    def _pass_on(self) -> None:
        data = self._reader.recv(4096)
        if self._previous != -1:
            with contextlib.suppress(OSError):
                os.write(self._previous, data)

    def close(self) -> None:
        """Leave things as they were."""
        if not self._is_set:
            return
        self._is_set = False
        with contextlib.suppress(NotImplementedError):
            self._loop.remove_reader(self._reader)
        found = signal.set_wakeup_fd(self._previous)
        if found != self._writer.fileno():
            signal.set_wakeup_fd(found)  # somebody else's by now, such as that of loop.add_signal_handler
        self._reader.close()
        self._writer.close()


class Interrupts:
    """While entered, signals whose handling is Python's default end `run` in order; others stay the user's business.

    One handler serves all runs of the process: the first one to enter installs it, the last one to leave puts back
    what was there. Signals can be handled in the main thread of the main interpreter only, so elsewhere this does
    nothing.

    Where the main thread is stuck, so that the run hears of no signal, the third one is raised where it is: whatever
    has gone wrong there, a user can end the program.

    Args:
        run: What a signal ends.
        life: The task that the run goes on in.
        holds_up_others: Whether the run has a loop of its own. A callback of another run that is being called now then
            waits for it, and is interrupted by what comes out of it, not by the signal.
    """

    _active: ClassVar[list[Interrupts]] = []
    _before: ClassVar[dict[int, Any]] = {}  # the handlers that were there; a run that holds up others has its own
    _terminated: ClassVar[bool] = False  # SIGTERM was received
    _wake_ups: ClassVar[dict[asyncio.AbstractEventLoop, WakeUp]] = {}

    def __init__(self, run: Interruptible, life: asyncio.Task[None], *, holds_up_others: bool = False) -> None:
        self._run = run
        self._life = life
        self._holds_up_others = holds_up_others
        if holds_up_others:
            self._before = {}  # type: ignore[misc]
        self._held_up: list[Interrupts] = []  # by this one
        self._is_held_up = False
        self._is_told = False
        self._n_heard = 0  # by the run, when a signal came last
        self._n_unheard = 0  # those that came since
        self._unheard_since = 0.0
        self._entered = False

    @property
    def told(self) -> bool:
        """Whether a signal was handled that ends the run, and that takes effect afterwards."""
        return self._is_told or self._terminated

    def lives(self) -> list[asyncio.Task[None]]:
        """What has not ended yet of this run and, once a signal came, of the others that it ends in the same loop.

        `KeyboardInterrupt` and `SystemExit` tear the loop that they come out of, so all runs must be over before.
        """
        others = [entry._life for entry in self._active if entry._is_told and self._is_told]
        loop = self._life.get_loop()
        return [life for life in (self._life, *others) if not life.done() and life.get_loop() is loop]

    def __enter__(self) -> Self:
        if not _handles_signals():
            return self
        self._entered = True
        self._take_over()
        if self._holds_up_others:
            self._held_up = [other for other in self._active if other._run.in_user_code and not other._is_held_up]
            for other in self._held_up:
                other._is_held_up = True
        loop = self._life.get_loop()
        if loop not in self._wake_ups:
            self._wake_ups[loop] = WakeUp(loop, is_alone=self._holds_up_others)
        self._active.append(self)
        return self

    def _take_over(self) -> None:
        """Handle the signals that Python handles by default, if that was not done for an earlier run."""
        self._pid = os.getpid()
        handler = signal.getsignal(signal.SIGINT)
        if handler == signal.default_int_handler or (self._holds_up_others and _only_cancels(handler)):
            self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._handle)
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._handle)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._entered:
            return
        self._active.remove(self)
        for other in self._held_up:
            other._is_held_up = False
        loop = self._life.get_loop()
        if all(entry._life.get_loop() is not loop for entry in self._active):
            self._wake_ups.pop(loop).close()
        is_last = all(entry._life.done() for entry in self._active)
        if is_last or self._holds_up_others:
            for signum, handler in self._before.items():
                if _is_ours(signal.getsignal(signum)):  # the user may have set another one meanwhile
                    signal.signal(signum, handler)
            self._before.clear()
        if is_last and self._terminated:
            Interrupts._terminated = False
            signal.raise_signal(signal.SIGTERM)  # now it does what it would have done: end the process
        if kind is None and self._is_told and not self._run.interrupted:
            raise KeyboardInterrupt  # it came too late for the run

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            self._handle_in_child(signum)
            return
        if signum == signal.SIGTERM:
            Interrupts._terminated = True
        exception = KeyboardInterrupt() if signum == signal.SIGINT else SystemExit(128 + signum)
        concerned = [entry for entry in self._active if not entry._is_held_up]
        for entry in concerned:
            if entry._run.in_user_code:
                entry._run.raise_from_signal(exception)
            else:
                entry._is_told = True
                entry._run.interrupt_from_signal(exception)
        if any([entry._run.in_user_code or entry._is_stuck() for entry in concerned]):  # noqa: C419 - all take note
            raise exception  # in the callback, or in whatever it is that keeps the user waiting

    def _is_stuck(self) -> bool:
        """Whether a user has insisted, and the run has heard nothing of it. Called once for each signal."""
        now, n_heard = time.monotonic(), self._run.n_interruptions
        if n_heard != self._n_heard or not self._n_unheard:
            self._n_heard, self._n_unheard, self._unheard_since = n_heard, 0, now
        self._n_unheard += 1
        return self._n_unheard >= INSISTING and now - self._unheard_since >= STUCK_SECONDS

    @staticmethod
    def _handle_in_child(signum: int) -> None:
        """Act for a process that was forked during a run and has inherited the handler.

        The parent decides what Ctrl-C does to its workers; SIGTERM was meant for this process.
        """
        if signum == signal.SIGTERM:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)


def may_be_torn() -> bool:
    """Whether what this thread does may be torn anywhere, by the handler of a signal that is the user's own.

    Such a handler may raise. Those of Python, asyncio and Jupyter, and this module's, do not, or only when
    a user insists. Nor do those by which event loops and servers take note of a signal.
    """
    if not _handles_signals():
        return False
    harmless = (None, signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)
    handlers = map(signal.getsignal, signal.valid_signals())
    return any(
        handler not in harmless and not (_is_ours(handler) or _only_cancels(handler) or _only_notes(handler))
        for handler in handlers
    )


def _handles_signals() -> bool:
    """Whether this thread is the one that handles signals: the main one of the main interpreter."""
    if threading.current_thread() is not threading.main_thread():
        return False
    try:
        signal.set_wakeup_fd(-2)  # there is no such descriptor, which only that thread gets as far as to find out
    except OSError:
        return True
    except ValueError:
        return False  # another interpreter, which has a main thread as well
    return True


def _is_ours(handler: Any) -> bool:
    return getattr(handler, "__func__", None) is Interrupts._handle


def _only_notes(handler: Any) -> bool:
    """Whether this is what `loop.add_signal_handler`, or a server, has installed: the loop does the rest later."""
    return getattr(handler, "__module__", None) in NOTING


def _only_cancels(handler: Any) -> bool:
    """Whether this is what `asyncio.run`, or Jupyter for a cell that awaits, has installed.

    It cancels the task that its loop waits for, which is of no use while a callback in this loop has a loop of its own
    running.
    """
    is_of_a_runner = isinstance(getattr(getattr(handler, "func", None), "__self__", None), asyncio.Runner)
    return is_of_a_runner or str(getattr(handler, "__module__", "")).partition(".")[0] == "ipykernel"
