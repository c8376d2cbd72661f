"""Ctrl-C and SIGTERM: they end all current runs cleanly, and then take their usual effect."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from amltk._shield import is_shielded

if TYPE_CHECKING:
    from types import FrameType


INSISTING = 3
STUCK_SECONDS = 0.05
"""How many signals must arrive, and over at least how many seconds, without any of them reaching the run, before one is
raised although no callback is running."""


NOTING = frozenset({"asyncio.unix_events", "uvloop.loop", "uvicorn.server"})
"""Modules whose handlers only record a signal: the loops of asyncio and uvloop, and uvicorn."""


class Interruptible(Protocol):
    """A run, as a signal handler sees it."""

    @property
    def in_user_code(self) -> bool:
        """Whether one of its callbacks is running right now."""
        ...

    @property
    def n_interruptions(self) -> int:
        """How many interruptions have reached it."""
        ...

    def interrupt_from_signal(self, exception: BaseException) -> None:
        """End cleanly. Called by a signal handler."""

    def raise_from_signal(self, exception: BaseException) -> None:
        """Note that a signal handler is about to raise this in its callback."""


class WakeUp:
    """Makes signals wake a loop.

    Without it a signal that arrives right before the loop begins to wait is handled only after the wait, which may be
    long.

    Args:
        loop: The loop, on the main thread. If it is woken by signals already, or cannot read sockets, nothing is done.
        is_alone: Whether signals need to wake nothing else; otherwise an existing wake-up descriptor stays in place.
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
        """Restore the previous state."""
        if not self._is_set:
            return
        self._is_set = False
        with contextlib.suppress(NotImplementedError):
            self._loop.remove_reader(self._reader)
        found = signal.set_wakeup_fd(self._previous)
        if found != self._writer.fileno():
            signal.set_wakeup_fd(found)  # replaced meanwhile, for instance by loop.add_signal_handler
        self._reader.close()
        self._writer.close()


class Interrupts:
    """While entered, signals that Python handles by default end `run` cleanly. Other signals are left to the user.

    One handler serves all runs of the process: the first one to enter installs it, the last one to leave restores what
    was there. Only the main thread of the main interpreter can handle signals, so elsewhere this does nothing.

    If the main thread is stuck, so that no signal reaches the run, the third one is raised wherever the thread is: a
    user can always end the program.

    Args:
        run: The run that a signal ends.
        life: The task of the run.
        holds_up_others: Whether the run has its own loop. A callback of another run that is running now then waits for
            this run, and is interrupted by what this run raises, not by the signal.
    """

    _active: ClassVar[list[Interrupts]] = []
    _before: ClassVar[dict[int, Any]] = {}  # the previous handlers; a run that holds up others has its own
    _terminated: ClassVar[bool] = False  # SIGTERM was received
    _wake_ups: ClassVar[dict[asyncio.AbstractEventLoop, WakeUp]] = {}

    def __init__(self, run: Interruptible, life: asyncio.Task[None], *, holds_up_others: bool = False) -> None:
        self._run = run
        self._life = life
        self._holds_up_others = holds_up_others
        if holds_up_others:
            self._before = {}  # type: ignore[misc]
        self._held_up: list[Interrupts] = []  # by this run
        self._is_held_up = False
        self._is_told = False
        self._n_heard = 0  # by the run, at the last signal
        self._n_unheard = 0  # signals since then
        self._unheard_since = 0.0
        self._entered = False

    @property
    def told(self) -> bool:
        """Whether a signal was handled that ends the run and takes effect afterwards."""
        return self._is_told or self._terminated

    def lives(self) -> list[asyncio.Task[None]]:
        """The unfinished tasks of this run and, after a signal, of the other runs that it ends in the same loop.

        `KeyboardInterrupt` and `SystemExit` tear the loop that they are raised in, so all runs must be over before.
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
        """Handle the signals that Python handles by default, unless an earlier run has done so."""
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
            signal.raise_signal(signal.SIGTERM)  # now it has its usual effect: it ends the process
        if kind is None and self._is_told and not self._run.n_interruptions:
            raise KeyboardInterrupt  # the signal arrived too late for the run

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            self._handle_in_child(signum)
            return
        if signum == signal.SIGTERM:
            Interrupts._terminated = True
        exception = KeyboardInterrupt() if signum == signal.SIGINT else SystemExit(128 + signum)
        concerned = [entry for entry in self._active if not entry._is_held_up]
        may_raise = not is_shielded(frame)
        raises = False
        for entry in concerned:
            if entry._run.in_user_code and may_raise:
                entry._run.raise_from_signal(exception)
                raises = True
            else:
                entry._is_told = True
                entry._run.interrupt_from_signal(exception)
                raises = entry._is_stuck() or raises
        if raises:
            raise exception  # in the callback, or in what keeps the user waiting

    def _is_stuck(self) -> bool:
        """Whether a user has insisted without any signal reaching the run. Called once for each signal."""
        now, n_heard = time.monotonic(), self._run.n_interruptions
        if n_heard != self._n_heard or not self._n_unheard:
            self._n_heard, self._n_unheard, self._unheard_since = n_heard, 0, now
        self._n_unheard += 1
        return self._n_unheard >= INSISTING and now - self._unheard_since >= STUCK_SECONDS

    @staticmethod
    def _handle_in_child(signum: int) -> None:
        """Handle a signal in a process that was forked during a run and has inherited the handler.

        The parent decides what Ctrl-C does to its workers; SIGTERM was meant for this process.
        """
        if signum == signal.SIGTERM:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)


def may_be_torn() -> bool:
    """Whether a user's signal handler may tear what this thread does at any point.

    Such a handler may raise. The handlers of Python, asyncio, Jupyter and this module do not, or only when a user
    insists. Neither do the handlers of event loops and servers that only record a signal.
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
    """Whether this thread handles signals: the main thread of the main interpreter."""
    if threading.current_thread() is not threading.main_thread():
        return False
    try:
        signal.set_wakeup_fd(-2)  # an invalid descriptor; only that thread gets as far as OSError
    except OSError:
        return True
    except ValueError:
        return False  # another interpreter, which has its own main thread
    return True


def _is_ours(handler: Any) -> bool:
    return getattr(handler, "__func__", None) is Interrupts._handle


def _only_notes(handler: Any) -> bool:
    """Whether `loop.add_signal_handler`, or a server, has installed the handler: the loop does the rest later."""
    return getattr(handler, "__module__", None) in NOTING


def _only_cancels(handler: Any) -> bool:
    """Whether `asyncio.run`, or Jupyter for a cell that awaits, has installed the handler.

    It cancels the task that its loop waits for, which is useless while a callback in that loop runs another loop.
    """
    is_of_a_runner = isinstance(getattr(getattr(handler, "func", None), "__self__", None), asyncio.Runner)
    return is_of_a_runner or str(getattr(handler, "__module__", "")).partition(".")[0] == "ipykernel"
