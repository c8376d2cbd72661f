"""The life cycle of workers: which ones to start, which ones to kill and why, and the outcome of their calls.

Runs only on the pool's own thread, since starting and killing processes takes time.
"""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing.process
import os
import pickle
import selectors
import signal
import sys
import time
from typing import TYPE_CHECKING

from amltk.exceptions import PoolBrokenError
from amltk.scheduling.executors._transfer.failure import stand_in
from amltk.scheduling.executors.process_pool._child.worker import Start
from amltk.scheduling.executors.process_pool._io.link import SLOW_START_SECONDS, Link
from amltk.scheduling.executors.process_pool._pickling import main_module
from amltk.scheduling.executors.process_pool._pickling.importable import MAIN
from amltk.scheduling.executors.process_pool._state.outcomes import UNKNOWN_EXIT_CODE, lost
from amltk.scheduling.executors.process_pool._state.protocol import Kind, ProtocolError, encode
from amltk.scheduling.executors.process_pool._system.descendants import ON_LINUX
from amltk.scheduling.executors.process_pool._system.resource_tracker import Forwarding
from amltk.scheduling.executors.process_pool._workers.fork_server.messages import Kind as Report
from amltk.scheduling.executors.process_pool._workers.shortage import explain
from amltk.scheduling.executors.process_pool._workers.starters import (
    Starter,
    Surroundings,
    importable_path,
    make_starter,
)
from amltk.scheduling.executors.process_pool.options import AUTO
from amltk.scheduling.executors.termination import kill_trees

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager

    from amltk.scheduling.executors.process_pool._io.worker_io import WorkerIO
    from amltk.scheduling.executors.process_pool._state.dispatcher import Dispatcher
    from amltk.scheduling.executors.process_pool._workers.fork_server.messages import Message
    from amltk.scheduling.executors.process_pool.options import WorkerOptions

_log = logging.getLogger(__name__)

SILENCE_SECONDS = 0.5
"""How long a worker may live without a connection to the pool, in seconds."""

LOOK_SECONDS = 0.01
"""How often a worker that is ending is checked, in seconds."""

MAX_FAILED_STARTS = 3
"""How many workers in succession may fail to initialise before the pool is broken."""

MAX_SHORTAGES = 6
"""How often the system may fail to start a worker, while there are no workers, before the pool is broken."""

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 5.0
"""How long to wait before trying to start a worker again; doubled each time, up to the last."""


MAX_UNANSWERED = 64
"""How many workers may be requested before one is reported: more requests might fill the connection both ways."""

HANGING_START_RATIO = 10.0
"""How many times longer than the slowest earlier worker a worker may take to become ready."""

HANGING_START_SECONDS = 30.0
"""The least time a worker has to become ready, once another one has; see `WorkerManager._start_limit`."""


class WorkerManager:
    """Starts and ends workers; see the module.

    Args:
        options: How to start and end workers.
        variables: Returns environment variables for the workers, in addition to those of this process.
        dispatcher: Decides when a worker is wanted.
        io: Has the links.
        selector: For the sockets of new workers.
        control: For the starter's socket.
        lock: The engine's lock, not held by the caller.
        own: Sockets of the engine, which a forked worker must not keep.

    Attributes:
        due: When `look_after` must run next even if nothing happens, on the monotonic clock; None for never.
        is_hurried: Whether a run is waiting for its end.
    """

    def __init__(
        self,
        options: WorkerOptions,
        *,
        variables: Callable[[], dict[str, str]],
        dispatcher: Dispatcher,
        io: WorkerIO,
        selector: selectors.BaseSelector,
        control: selectors.BaseSelector,
        lock: AbstractContextManager[object],
        own: list[socket.socket],
    ) -> None:
        self._options = options
        self._variables = variables
        self._dispatcher = dispatcher
        self._io = io
        self._links = io.links
        self._selector = selector
        self._control = control
        self._lock = lock
        self._own = own
        self._starter: Starter | None = None
        self._shortages = 0  # in succession, while there were no workers
        self._pause = FIRST_RETRY_SECONDS
        self._retry_at: float | None = None  # when to try to start workers again
        self._has_said_short = False
        self.due: float | None = None
        self.is_hurried: bool = False

    def look_after(self, *, closing: bool) -> bool:
        """Handle everything that has happened.

        Args:
            closing: No more calls are accepted: hang up on all workers once everything is done.

        Returns:
            Whether there is new work for the I/O: calls that can go to other workers, or outcomes.

        Raises:
            PoolBrokenError: Too many workers in succession failed to start.
        """
        limit_monitor = self._io.limit_monitor
        excesses = limit_monitor.check()
        with self._lock:
            self._io.manager_wanted = False
            for excess in excesses:
                if limit_monitor.confirm(excess):
                    self._io.mark_for_kill(excess.link, excess.error)
        changed = self._note_reports()
        changed = self._kill_condemned() or changed
        with self._lock:
            self._hang_up(everybody=closing and self._dispatcher.idle())
        self._watch_starts()
        self._preload()
        changed = self._start_workers() or changed
        with self._lock:
            self.due = self._next_look()
        return changed

    def needed(self) -> bool:
        """Whether `look_after` may have to run at once, apart from its schedule. Requires the lock."""
        return self._io.manager_wanted or (
            self._dispatcher.wants_slot() and self._retry_at is None and not self._is_asking()
        )

    def _is_asking(self) -> bool:
        """Whether the maximum number of workers was requested that are not reported yet. Requires the lock."""
        return sum(not link.pid for link in self._links.values()) >= MAX_UNANSWERED

    def _next_look(self) -> float | None:
        """When to check again even if nothing happens. Requires the lock."""
        times = [self._io.limit_monitor.due()]
        now = time.monotonic()
        for link in self._links.values():
            if link.pid and (link.reason is not None or link.silent_since is not None):
                times.append(now + LOOK_SECONDS)  # it is being killed, or about to end
            elif link.hung_up_at is not None:
                times.append(link.hung_up_at + self._options.exit_timeout)
            elif link.slow_at is not None:
                times.append(link.slow_at)
        if self._retry_at is not None and self._dispatcher.wants_slot():
            times.append(self._retry_at)
        return min((one for one in times if one is not None), default=None)

    def close(self) -> None:
        """End what was needed to start workers, once the workers have ended."""
        with self._lock:
            links = list(self._links.values())
            self._links.clear()
        for link in links:
            link.close()
        if self._starter is not None:
            self._starter.close()
            self._starter = None
        if self._options.initialize is not None:
            self._options.initialize.close()
        if (forwarding := self._io.forwarding) is not None:
            self._io.forwarding = None
            if forwarding.fileno() >= 0:
                self._selector.unregister(forwarding)
            forwarding.close()

    def disown(self, lock: AbstractContextManager[object]) -> None:
        """Close, in a forked copy of the process, its copies of all connections. Nothing is sent or ended.

        Args:
            lock: The engine's new lock.
        """
        self._lock = lock
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._dispatcher.slots.clear()
        if self._starter is not None:
            self._starter.disown()
            self._starter = None
        self._io.disown()

    # ------------------------------------------------------------------ starts

    def _start_workers(self) -> bool:
        """Start the workers that are wanted; return whether this ended calls."""
        if self._retry_at is not None:
            if time.monotonic() < self._retry_at:
                return False
            self._retry_at = None
        while True:
            with self._lock:
                if not self._dispatcher.wants_slot() or self._is_asking():
                    return False
            try:
                self._start_worker()
            except ConnectionError:
                self._replace_starter()
                return True
            except OSError as error:
                self._note_shortage(error)
                return False

    def _start_worker(self) -> None:
        starter = self._make_starter()
        self._preload()
        with self._lock:
            slot = self._dispatcher.add_slot()
        try:
            link = Link(slot)
            try:
                payload = pickle.dumps(self._start(link))
                starter.start(link, self._descriptors())
            except BaseException:
                link.close_theirs()
                link.close()
                raise
        except BaseException:
            with self._lock:
                self._dispatcher.remove_slot(slot)
            raise
        link.close_theirs()
        with self._lock:
            self._links[slot.number] = link
            self._selector.register(link.frames, selectors.EVENT_READ, link)
            self._io.send(link, encode(Kind.INIT, payload=payload))

    def _preload(self) -> None:
        """Have the modules that calls need imported before the next workers are started."""
        if self._starter is not None and self._options.preload == AUTO and (new := self._io.packer.take_modules()):
            self._starter.preload(sorted(new))

    def _make_starter(self) -> Starter:
        if self._starter is None:
            surroundings = Surroundings(self._options.directory, self._variables(), self._forwarding().descriptor)
            self._starter = make_starter(self._options.method, surroundings, self._descriptors())
            self._control.register(self._starter.control, selectors.EVENT_READ)
            if self._options.preload != AUTO:
                self._starter.preload(self._options.preload)
        return self._starter

    def _forwarding(self) -> Forwarding:
        with self._lock:
            if self._io.forwarding is None:
                self._io.forwarding = Forwarding()
                if self._io.forwarding.fileno() >= 0:
                    self._selector.register(self._io.forwarding, selectors.EVENT_READ, self._io.forwarding)
            return self._io.forwarding

    def _descriptors(self) -> list[int]:
        """The descriptors that a copy of this process must not keep open."""
        found = [sock.fileno() for sock in self._own]
        for link in list(self._links.values()):
            found += (link.frames.fileno(), *link.tokens.descriptors())
        return found

    def _start(self, link: Link) -> Start:
        initialize = self._options.initialize
        return Start(
            path=importable_path(),
            argv=list(sys.argv),
            program=main_module.PROGRAM,
            main=main_module.describe(MAIN),
            directory=self._options.directory,
            initialize=None if initialize is None else self._io.packer.pack_initializer(link, initialize),
            authkey=bytes(multiprocessing.process.current_process().authkey),
        )

    def _start_failed(self, text: str, cause: BaseException | None) -> None:
        """Note that a worker was started but could not be initialised."""
        self._dispatcher.failed_starts += 1
        if self.is_hurried:
            raise PoolBrokenError(f"{text}, and the run is to end") from cause
        if self._dispatcher.failed_starts >= MAX_FAILED_STARTS:
            raise PoolBrokenError(
                f"{text}; that happened {self._dispatcher.failed_starts} times in succession"
            ) from cause
        _log.warning("%s; another one is started", text)

    def _note_shortage(self, error: OSError) -> None:
        """Note that the system cannot start a worker now. Continue with the existing ones, and try again later.

        Raises:
            PoolBrokenError: There have been no workers for some time.
        """
        self._shortages = 0 if self._links else self._shortages + 1
        if self._shortages >= MAX_SHORTAGES:
            raise PoolBrokenError(f"no worker process can be started: {explain(error)}") from error
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(LAST_RETRY_SECONDS, 2 * self._pause)
        if not self._has_said_short:
            self._has_said_short = True
            _log.warning(
                "a worker process cannot be started: %s. The pool goes on with %d workers, and tries again",
                explain(error),
                len(self._links),
            )

    def _watch_starts(self) -> None:
        """Warn about workers that are slow to become ready, since nothing else does; give up hanging ones."""
        now = time.monotonic()
        with self._lock:
            slow = [link for link in self._links.values() if link.slow_at is not None and link.slow_at <= now]
            for link in slow:
                link.slow_at = now + max(SLOW_START_SECONDS, (now - link.requested_at) / 2)
        for link in slow:
            took = now - link.requested_at
            is_initializing = link.pid and self._options.initialize is not None
            what = "its initializer has not returned" if is_initializing else "it is still being started"
            if link.reason is None and took >= self._start_limit():
                link.reason = TimeoutError(f"it was not ready after {took:.0f} s: {what}")
                link.failed_start = True
            else:
                _log.warning("worker %s is not ready after %.0f s: %s", link.pid or "(no pid yet)", took, what)

    def _start_limit(self) -> float:
        """The number of seconds after which a worker is no longer expected to become ready.

        The first worker may take any time, unless a run is waiting for its end. Others take about as long as earlier
        ones, except a worker that waits for something that a killed one held: a device, or a lock.
        """
        if self.is_hurried:
            return SLOW_START_SECONDS
        slowest = self._io.slowest_start
        return max(HANGING_START_SECONDS, HANGING_START_RATIO * slowest) if slowest else math.inf

    # ------------------------------------------------------------------ ends

    def _hang_up(self, *, everybody: bool) -> None:
        """Hang up on workers that are no longer needed, so that they end."""
        for link in self._links.values():
            if (everybody or link.slot.retired) and not link.slot.sent and link.hung_up_at is None:
                link.hang_up()
                if not link.pid and self._starter is not None:
                    self._starter.abandon(link.slot.number)

    def _kill_condemned(self) -> bool:
        """Kill the workers that are marked for it, with everything that they have started.

        Returns:
            Whether some were given up because they cannot be killed: they have become another user's.
        """
        now, late = time.monotonic(), []
        with self._lock:
            for link in self._links.values():
                if link.reason is None:
                    link.reason = self._overdue(link, now)
                    late += [link] if isinstance(link.reason, TimeoutError) else []
            marked_for_kill = [link for link in self._links.values() if link.reason is not None]
        for link in late:
            waits = f": it waits for {link.ending}" if link.ending else ""
            limit = self._options.exit_timeout
            _log.warning("worker %d did not end in %g s, and is killed%s", link.pid, limit, waits)
        for link in marked_for_kill:
            if not link.pid and self._starter is not None:
                self._starter.abandon(link.slot.number)
        denied = _kill({link.pid for link in marked_for_kill if link.pid})
        for link in marked_for_kill:
            if link.pid in denied:
                _log.warning(
                    "worker %d is to be ended, because %s, and this user may not do that: it is left alone, and ends "
                    "when its call does",
                    link.pid,
                    link.reason,
                )
                self._bury(link, UNKNOWN_EXIT_CODE)
        return bool(denied)

    def _overdue(self, link: Link, now: float) -> Exception | None:
        """Why a worker that should have ended must be killed; None if it still has time."""
        if link.silent_since is not None and now - link.silent_since > SILENCE_SECONDS:
            return ProtocolError("it has closed its connection to the pool")
        limit = self._options.exit_timeout
        if link.hung_up_at is None or now - link.hung_up_at < limit:
            return None
        return TimeoutError(f"it did not end in {limit:g} s")

    def _note_reports(self) -> bool:
        """Handle what the starter reports about processes; return whether any have ended."""
        if self._starter is None:
            return False
        try:
            reports = self._starter.reports()
        except ConnectionError:
            self._replace_starter()
            return True
        problems: list[OSError | PoolBrokenError] = []  # raised once all reports are handled
        changed = False
        for report in reports:
            try:
                changed = self._note_report(report) or changed
            except (OSError, PoolBrokenError) as error:
                problems.append(error)
        for problem in problems:
            if isinstance(problem, PoolBrokenError):
                raise problem
        if problems and isinstance(problems[0], OSError):
            self._note_shortage(problems[0])
        return changed

    def _note_report(self, report: Message) -> bool:
        """Handle one report; return whether a worker has ended.

        Raises:
            OSError: The system could not start a worker.
            PoolBrokenError: Too many workers in succession failed to start.
        """
        if report.kind in {Report.UNFIT, Report.SKIPPED}:
            self._note_module(report)
            return False
        link = self._links.get(report.number)
        if link is None:
            return False
        if report.kind == Report.STARTED:
            link.pid = report.value
            self._shortages = 0
            self._pause = FIRST_RETRY_SECONDS
            _log.debug("worker %d was started by %s", link.pid, self._options.method)
            return False
        if report.kind == Report.FAILED:
            self._drop(link)
            if link.failed_start:
                self._start_failed(f"a worker was given up, because {link.reason}", None)
            if report.value and link.reason is None and link.hung_up_at is None:  # else given up, or retried
                raise OSError(report.value, os.strerror(report.value))
            return False
        if report.value == UNKNOWN_EXIT_CODE:
            _kill_group(link.pid)  # its supervisor was killed with it
        self._bury(link, report.value)
        return True

    def _note_module(self, report: Message) -> None:
        module, reason = pickle.loads(report.payload)
        if report.kind == Report.UNFIT:
            given = self._options.preload != AUTO
            remedy = "leave it out of preload=" if given else "name what else takes long to import in preload=[...]"
            _log.warning(
                "%s is not imported ahead of the workers, so each of them does: %s. A process with that cannot be "
                "copied; %s",
                module,
                reason,
                remedy,
            )
        else:
            # A name that the user gave is worth a warning; if a call needs the module, the call itself raises the
            # error.
            log = _log.debug if self._options.preload == AUTO else _log.warning
            log("%s could not be imported ahead of the workers: %s", module, reason)

    def _drop(self, link: Link) -> None:
        """Remove a worker that was never started."""
        with self._lock:
            # It may have begun calls anyway, if the process that starts workers was killed before it could report.
            self._hear_out(link)
            self._forget(link)
            for call in self._dispatcher.remove_slot(link.slot):
                self._io.end(call, lost(call, link.pid, UNKNOWN_EXIT_CODE, link.reason))

    def _hear_out(self, link: Link) -> None:
        """Read what a worker sent before it ended. Requires the lock."""
        if link.silent_since is None:
            with contextlib.suppress(BlockingIOError, OSError, ProtocolError):
                while link.decoder.receive(link.frames):
                    self._io.handle_frames(link)
        self._io.forward()

    def _forget(self, link: Link) -> None:
        """Give up the connection to a worker that has ended. Requires the lock."""
        if link.silent_since is None:
            self._selector.unregister(link.frames)
        self._io.limit_monitor.forget(link)
        self._io.take_back(link)
        del self._links[link.slot.number]  # first: reentrant code on this thread must not find a closed link
        link.close()

    def _replace_starter(self) -> None:
        """Drop a starter process that was killed; its workers end with it. The next worker gets a new starter."""
        starter, self._starter = self._starter, None
        if starter is not None:
            self._control.unregister(starter.control)
            starter.close()
        links = list(self._links.values())
        kill_trees(link.pid for link in links if link.pid)  # if the system does not do it
        for link in links:
            if link.pid:
                _kill_group(link.pid)
                self._bury(link, UNKNOWN_EXIT_CODE)
            else:
                self._drop(link)
        self._start_failed("the process that starts workers has ended", None)

    def _bury(self, link: Link, code: int) -> None:
        """Remove a worker whose process has ended; what it sent before that counts."""
        with self._lock:
            self._hear_out(link)
            self._forget(link)
            for call in self._dispatcher.remove_slot(link.slot):
                self._io.end(call, lost(call, link.pid, code, link.reason))
        _log.debug("worker %d has ended, exit code %d: %s", link.pid, code, link.reason or "not killed by the pool")
        if link.failure is not None:
            failure = link.failure
            text = f"the initializer failed in worker {link.pid}: {failure.name}: {failure.text}"
            self._start_failed(text, stand_in(failure))
        elif link.failed_start:
            self._start_failed(f"worker {link.pid} was ended, because {link.reason}", None)
        elif not link.slot.ready and link.hung_up_at is None and link.reason is None:
            self._start_failed(f"worker {link.pid} ended with exit code {code} before it was initialised", None)


def _kill(pids: Collection[int]) -> set[int]:
    """Kill workers. Their parent process ends what they have started, as far as it finds it.

    Returns:
        The pids that this user may not kill.
    """
    if not ON_LINUX:
        kill_trees(pids)
    denied = set()
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        except PermissionError:
            denied.add(pid)
    return denied


def _kill_group(pid: int) -> None:
    """Kill the processes that a worker has started and that are still in its group, if nothing else does."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
