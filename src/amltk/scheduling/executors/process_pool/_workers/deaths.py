"""Handles what is reported about workers, above all their deaths: what the last call of each ends with."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
from typing import TYPE_CHECKING

from amltk.exceptions import PoolBrokenError
from amltk.scheduling.executors._transfer.failure import stand_in
from amltk.scheduling.executors.process_pool._state.outcomes import UNKNOWN_EXIT_CODE, lost
from amltk.scheduling.executors.process_pool._state.protocol import ProtocolError
from amltk.scheduling.executors.process_pool._system.descendants import kill
from amltk.scheduling.executors.process_pool._workers.fork_server.messages import Kind as Report
from amltk.scheduling.executors.process_pool.options import AUTO
from amltk.scheduling.executors.termination import kill_trees

if TYPE_CHECKING:
    from collections.abc import Iterable

    from amltk.scheduling.executors.process_pool._io.link import Link
    from amltk.scheduling.executors.process_pool._workers.fork_server.messages import Message
    from amltk.scheduling.executors.process_pool._workers.managed_pool import ManagedPool
    from amltk.scheduling.executors.process_pool._workers.start_problems import StartProblems

_log = logging.getLogger(__name__)


class Deaths:
    """Handles the reports of a pool's starter."""

    def __init__(self, pool: ManagedPool, problems: StartProblems) -> None:
        self._pool = pool
        self._problems = problems

    def note_reports(self, reports: Iterable[Message]) -> bool:
        """Handle what the starter has reported; return whether any workers have ended.

        Raises:
            PoolBrokenError: Too many workers in succession failed to start.
        """
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
            self._problems.note_shortage(problems[0])
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
        link = self._pool.links.get(report.number)
        if link is None:
            if report.kind == Report.STARTED:  # it was given up
                for process in (-report.value, report.value):  # it has no group of its own before it has run
                    kill(process)
            return False
        if report.kind == Report.STARTED:
            link.pid = report.value
            self._problems.note_started()
            _log.debug("worker %d was started by %s", link.pid, self._pool.options.method)
            return False
        if report.kind == Report.FAILED:
            # It may have begun calls anyway, if the process that starts workers was killed before it could report.
            self._remove(link, UNKNOWN_EXIT_CODE)
            self._note_given_up([link])
            if report.value and link.reason is None and link.hung_up_at is None:  # else given up, or retried
                raise OSError(report.value, os.strerror(report.value))
            return False
        if report.value == UNKNOWN_EXIT_CODE and link.pid:  # else its supervisor ended before it could report a pid
            kill(-link.pid)  # its supervisor was killed with it
        self.bury(link, report.value)
        return True

    def _note_module(self, report: Message) -> None:
        module, reason = pickle.loads(report.payload)
        preload = self._pool.options.preload
        if report.kind == Report.UNFIT:
            given = preload != AUTO
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
            log = _log.debug if preload == AUTO else _log.warning
            log("%s could not be imported ahead of the workers: %s", module, reason)

    def lose_all(self) -> None:
        """Remove all workers, since the process that starts workers was killed, and they end with it.

        That is one failed start, however many workers were not ready.

        Raises:
            PoolBrokenError: Too many workers in succession failed to start.
        """
        links = list(self._pool.links.values())
        kill_trees(link.pid for link in links if link.pid)  # if the system does not do it
        for link in links:
            if link.pid:
                kill(-link.pid)
            self._remove(link, UNKNOWN_EXIT_CODE)
        self._problems.note_failed("the process that starts workers has ended", None)

    def bury(self, link: Link, code: int) -> None:
        """Remove a worker whose process has ended; what it sent before that counts.

        Raises:
            PoolBrokenError: Too many workers in succession failed to start.
        """
        self._remove(link, code)
        _log.debug("worker %d has ended, exit code %d: %s", link.pid, code, link.reason or "not killed by the pool")
        if link.failure is not None:
            failure = link.failure
            text = f"the initializer failed in worker {link.pid}: {failure.name}: {failure.text}"
            self._problems.note_failed(text, stand_in(failure))
        elif link.failed_start:
            self._problems.note_failed(f"worker {link.pid} was ended, because {link.reason}", None, was_given_up=True)
        elif not link.slot.ready and link.hung_up_at is None and link.reason is None:
            worker = f"worker {link.pid}" if link.pid else "a worker"
            how = "together with the process that starts it" if code == UNKNOWN_EXIT_CODE else f"with exit code {code}"
            self._problems.note_failed(f"{worker} ended {how}, before it was initialised", None)

    def give_up(self, links: Iterable[Link]) -> None:
        """Remove workers of which nothing is reported, with what is in their groups.

        That is one failed start, however many were not ready. If one is started later, it is killed then.

        Raises:
            PoolBrokenError: Too many workers in succession failed to start.
        """
        for link in links:
            if link.pid:
                kill(-link.pid)
            self._remove(link, UNKNOWN_EXIT_CODE)
        self._note_given_up(links)

    def _note_given_up(self, links: Iterable[Link]) -> None:
        reason = next((link.reason for link in links if link.failed_start), None)
        if reason is not None:
            self._problems.note_failed(f"a worker was given up, because {reason}", None, was_given_up=True)

    def _remove(self, link: Link, code: int) -> None:
        pool = self._pool
        with pool.lock:
            self._hear_out(link)
            self._forget(link)
            for call in pool.dispatcher.remove_slot(link.slot):
                pool.io.end(call, lost(call, link.pid, code, link.reason))
        for tell in link.slot.on_end:
            tell()

    def _hear_out(self, link: Link) -> None:
        """Read what a worker sent before it ended. Requires the lock."""
        if link.silent_since is None:
            with contextlib.suppress(BlockingIOError, OSError, ProtocolError):
                while link.decoder.receive(link.frames):
                    self._pool.io.handle_frames(link)
        self._pool.io.forward()

    def _forget(self, link: Link) -> None:
        """Give up the connection to a worker that has ended. Requires the lock."""
        self._pool.io.take_back(link)  # while it is registered: this may send
        if link.silent_since is None:
            self._pool.selector.unregister(link.frames)
        self._pool.io.limit_monitor.forget(link)
        del self._pool.links[link.slot.number]  # first: reentrant code on this thread must not find a closed link
        self._pool.io.segments.forget(link)
        link.close()
