"""The life of the workers: who is started, who is ended and why, and what becomes of their calls.

Done by the pool's own thread only, since starting and killing processes takes its time.
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
"""How long a worker may go on without a connection to the pool."""

LOOK_SECONDS = 0.01
"""How soon a worker that is ending is looked at again."""

MAX_FAILED_STARTS = 3
"""How many workers may fail to initialise, one after the other, before the pool is broken."""

MAX_SHORTAGES = 6
"""How often the system may be unable to start a worker, while there is none, before the pool is broken."""

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 5.0
"""How long to wait before the system is asked for a worker again; twice as long each time, up to the last."""


MAX_UNANSWERED = 64
"""How many workers may be asked for before one is told of: more requests might fill the connection, both ways."""

HANGING_START_RATIO = 10.0
"""How much longer than the slowest one before it a worker may take to be ready."""

HANGING_START_SECONDS = 30.0
"""How long a worker may take to be ready, at least, once another one has been; see `WorkerManager._start_limit`."""


class WorkerManager:
    """See the module.

    Args:
        options: How workers are started and ended.
        variables: Gives environment variables for the workers, besides those of this process.
        dispatcher: Says when a worker is wanted.
        io: Has the links.
        selector: Where the sockets of new workers are registered.
        control: Where the starter's socket is registered.
        lock: The engine's, not held by the caller.
        own: Sockets of the engine, which a forked worker must not keep.

    Attributes:
        due: When to look after things next, on the monotonic clock, whatever happens; None for never.
        is_hurried: Whether a run waits for its end.
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
        self._shortages = 0  # in succession, while there was no worker
        self._pause = FIRST_RETRY_SECONDS
        self._retry_at: float | None = None  # when to ask the system for workers again
        self._has_said_short = False
        self.due: float | None = None
        self.is_hurried: bool = False

    def look_after(self, *, closing: bool) -> bool:
        """See to everything that has come up.

        Args:
            closing: Nothing more is accepted: hang up on everybody once all is done.

        Returns:
            Whether there is something new for the traffic: calls that can go to others, or outcomes.

        Raises:
            PoolBrokenError: Workers fail to start, one after the other.
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
        """Whether there may be something to look after at once, besides what was noted; under the lock."""
        may_start = self._retry_at is None and not self._is_asking()
        return self._io.manager_wanted or (may_start and self._dispatcher.wants_seat())

    def _is_asking(self) -> bool:
        """Whether as many workers were asked for as may be before one of them is told of; under the lock."""
        return sum(not link.pid for link in self._links.values()) >= MAX_UNANSWERED

    def _next_look(self) -> float | None:
        """When to look again though nothing happens; under the lock."""
        times = [self._io.limit_monitor.due()]
        now = time.monotonic()
        for link in self._links.values():
            if link.pid and (link.reason is not None or link.silent_since is not None):
                times.append(now + LOOK_SECONDS)  # it is being killed, or about to end
            elif link.hung_up_at is not None:
                times.append(link.hung_up_at + self._options.exit_timeout)
            elif link.slow_at is not None:
                times.append(link.slow_at)
        if self._retry_at is not None and self._dispatcher.wants_seat():
            times.append(self._retry_at)
        return min((one for one in times if one is not None), default=None)

    def close(self) -> None:
        """End what was needed to start workers, once these have ended."""
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
            lock: The engine's new one.
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
        """Start the workers that are wanted; whether calls were ended by that."""
        if self._retry_at is not None:
            if time.monotonic() < self._retry_at:
                return False
            self._retry_at = None
        while True:
            with self._lock:
                if not self._dispatcher.wants_seat() or self._is_asking():
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
        """Have what calls need imported ahead of the workers that are still to be started."""
        if self._starter is not None and self._options.preload == AUTO and (new := self._io.take_modules()):
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
        """What a copy of this process must not keep open."""
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
            initialize=None if initialize is None else self._io.pack_initializer(link, initialize),
            authkey=bytes(multiprocessing.process.current_process().authkey),
        )

    def _start_failed(self, text: str, cause: BaseException | None) -> None:
        """Note that a worker was started, and could not be initialised."""
        self._dispatcher.failed_starts += 1
        if self.is_hurried:
            raise PoolBrokenError(f"{text}, and the run is to end") from cause
        if self._dispatcher.failed_starts >= MAX_FAILED_STARTS:
            raise PoolBrokenError(
                f"{text}; that happened {self._dispatcher.failed_starts} times in succession"
            ) from cause
        _log.warning("%s; another one is started", text)

    def _note_shortage(self, error: OSError) -> None:
        """Note that the system cannot start a worker now: go on with those that there are, and ask it again later.

        Raises:
            PoolBrokenError: There is none, and there was none for some time.
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
        """Say which workers take long to be ready, since nobody else does while calls wait; give up those that hang."""
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
        """Seconds after which a worker is not expected to be ready any more.

        The first one may take any time, unless a run waits for its end. Others take about as long as those before them,
        but for one that waits for what a killed one had: a device, or a lock.
        """
        if self.is_hurried:
            return SLOW_START_SECONDS
        slowest = self._io.slowest_start
        return max(HANGING_START_SECONDS, HANGING_START_RATIO * slowest) if slowest else math.inf

    # ------------------------------------------------------------------ ends

    def _hang_up(self, *, everybody: bool) -> None:
        """Have workers end that are not needed any more."""
        for link in self._links.values():
            if (everybody or link.slot.retired) and not link.slot.sent and link.hung_up_at is None:
                link.hang_up()
                if not link.pid and self._starter is not None:
                    self._starter.abandon(link.slot.number)

    def _kill_condemned(self) -> bool:
        """Kill the workers that are to be ended, with everything that they have started.

        Returns:
            Whether some were given up that cannot be killed: they have become another user's.
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
        """Why a worker has to be killed that should have ended by itself; None if it has time."""
        if link.silent_since is not None and now - link.silent_since > SILENCE_SECONDS:
            return ProtocolError("it has closed its connection to the pool")
        limit = self._options.exit_timeout
        if link.hung_up_at is None or now - link.hung_up_at < limit:
            return None
        return TimeoutError(f"it did not end in {limit:g} s")

    def _note_reports(self) -> bool:
        """Take note of what has become of processes; whether some have ended."""
        if self._starter is None:
            return False
        try:
            reports = self._starter.reports()
        except ConnectionError:
            self._replace_starter()
            return True
        problems: list[OSError | PoolBrokenError] = []  # raised when all reports were noted
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
        """Take note of one report; whether a worker has ended.

        Raises:
            OSError: The system could not start a worker.
            PoolBrokenError: Workers fail to start, one after the other.
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
            if report.value and link.reason is None and link.hung_up_at is None:  # else given up, or tried again
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
            # A name that was given is worth a warning; of a module that a call needs, the call itself raises the error.
            log = _log.debug if self._options.preload == AUTO else _log.warning
            log("%s could not be imported ahead of the workers: %s", module, reason)

    def _drop(self, link: Link) -> None:
        """Take out a worker that was never started."""
        with self._lock:
            # It may have begun calls all the same, if the process that starts workers was killed before it could tell.
            self._hear_out(link)
            self._forget(link)
            for call in self._dispatcher.remove_slot(link.slot):
                self._io.end(call, lost(call, link.pid, UNKNOWN_EXIT_CODE, link.reason))

    def _hear_out(self, link: Link) -> None:
        """Take in what a worker has sent before it has ended; under the lock."""
        if link.silent_since is None:
            with contextlib.suppress(BlockingIOError, OSError, ProtocolError):
                while link.decoder.receive(link.frames):
                    self._io.handle_frames(link)
        self._io.forward()

    def _forget(self, link: Link) -> None:
        """Give up the connection to a worker that is no more; under the lock."""
        if link.silent_since is None:
            self._selector.unregister(link.frames)
        self._io.limit_monitor.forget(link)
        self._io.take_back(link)
        del self._links[link.slot.number]  # first: who asks in between, on this thread, must not find what is closed
        link.close()

    def _replace_starter(self) -> None:
        """Forget a process that starts workers and was killed; its workers end with it. The next one gets another."""
        starter, self._starter = self._starter, None
        if starter is not None:
            self._control.unregister(starter.control)
            starter.close()
        links = list(self._links.values())
        kill_trees(link.pid for link in links if link.pid)  # where the system does not do it
        for link in links:
            if link.pid:
                _kill_group(link.pid)
                self._bury(link, UNKNOWN_EXIT_CODE)
            else:
                self._drop(link)
        self._start_failed("the process that starts workers has ended", None)

    def _bury(self, link: Link, code: int) -> None:
        """Take out a worker whose process has ended; what it has sent before counts."""
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
    """Kill workers. What they have started is ended by the process that is their parent, where that finds it.

    Returns:
        Those that this user may not kill.
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
    """Kill what a worker has started, as far as it is still in its group; where nobody else does that any more."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
