"""The thread that submits jobs, sees how they are getting on, and ends them."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from heapq import nsmallest
from typing import TYPE_CHECKING, Protocol

from amltk._process.threads import start_daemon
from amltk.exceptions import JobRefusedError
from amltk.scheduling.executors.remote.slurm_jobs import slurm

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from amltk.scheduling.executors.remote.slurm_jobs.call_files import CallFiles
    from amltk.scheduling.executors.remote.slurm_jobs.job_state import Job
    from amltk.scheduling.executors.remote.slurm_jobs.slurm import Listed

_log = logging.getLogger(__name__)

LONGEST_LOOK = 1.0
"""How many seconds pass at most until the folders of calls are looked at again."""

MOST_LOOKS = 100
"""How many folders are looked at in one go, besides those of jobs that have ended: what a look costs does not grow with
the number of jobs. All others wait for their turn, or until Slurm says that their jobs have ended."""

MOST_SILENCES = 5
"""How often in a row Slurm may not answer before jobs that were to be cancelled are left alone, at the end."""

LATE_SECONDS = 30.0
"""How long to wait for the outcome of a job that has come to its end, or that Slurm no longer knows: a file system of a
cluster may be slow to show it."""


class Owner(Protocol):
    """Has the calls. Its methods are called by the watcher's thread."""

    def find(self, job: Job) -> CallFiles | None:
        """The folder of a call, if an earlier session has made it."""
        ...

    def make(self, job: Job) -> CallFiles:
        """Make the folder of a call. Raises an `OSError` if that cannot be done."""
        ...

    def arguments(self, job: Job) -> list[str]:
        """The arguments of sbatch for a call."""
        ...

    def take(self, job: Job, outcome: bytes) -> None:
        """Take the outcome of a call."""

    def lose(self, job: Job, known: Listed | None) -> None:
        """Note that a job has ended without an outcome, in this way if Slurm knows it."""

    def refuse(self, job: Job, error: Exception) -> None:
        """Note that a job cannot be submitted."""

    def begin(self, job: Job, nodes: str) -> None:
        """Note that a job has begun, on these nodes if that is known."""

    def fail(self, error: Exception) -> None:
        """Note that the watcher itself has failed."""


class Watcher:
    """See the module's docstring. Its thread begins with the first job, and sleeps while there is none.

    It has more than 25 methods because each is a step of what one thread does with the same few queues of jobs.

    Args:
        owner: Has the calls.
        pause: How many seconds pass between two questions to Slurm.
        max_jobs: How many jobs there are at most; None for any number.
    """

    def __init__(self, owner: Owner, pause: float, max_jobs: int | None) -> None:
        self._owner = owner
        self._pause = pause
        self._max_jobs = max_jobs
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._new: OrderedDict[Job, None] = OrderedDict()
        self._sent: dict[Job, None] = {}
        self._unwanted: deque[Job] = deque()  # to be cancelled
        self._over: deque[CallFiles] = deque()  # to be cleaned up
        self._left: list[CallFiles] = []  # by earlier programs: the same, but their jobs may go on
        self._closing = False
        self._is_left = False  # nothing more is submitted
        self._full_until = 0.0  # when submitting is tried again, on the monotonic clock
        self._has_been_full = False  # Slurm had as many jobs of this user as it takes
        self._due = 0.0  # when Slurm is asked again, on the monotonic clock
        self._looks_from = 0.0  # when folders may be looked at again, on the same clock
        self._silences = 0  # how often in a row Slurm has not answered

    # ------------------------------------------------------------------ from any thread

    def put(self, jobs: Iterable[Job]) -> None:
        """Have jobs submitted, or found again.

        Raises:
            RuntimeError: There can be no more threads.
        """
        with self._changed:
            self._start()
            self._is_left = False
            self._new.update(dict.fromkeys(jobs))
            self._changed.notify_all()

    def drop(self, job: Job) -> None:
        """Have a job cancelled, whatever it is doing, or not submitted. Once for each job. Raises as `put` does."""
        with self._changed:
            self._start()
            self._new.pop(job, None)
            self._unwanted.append(job)
            self._changed.notify_all()

    def leave(self) -> None:
        """Submit nothing more, and leave all jobs alone."""
        with self._changed:
            self._is_left = True
            self._new.clear()
            self._sent.clear()
            self._changed.notify_all()

    def clear(self, left: Iterable[CallFiles]) -> None:
        """Have the folders of calls cleaned up that have ended under an earlier program, and their jobs if they go on.

        Raises as `put` does.
        """
        with self._changed:
            self._left.extend(left)
            if self._left:
                self._start()
                self._changed.notify_all()

    def tidy(self, files: CallFiles) -> None:
        """Have a folder cleaned up."""
        with self._changed:
            self._over.append(files)
            self._changed.notify_all()

    def close(self) -> None:
        """Do what was asked for, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    # ------------------------------------------------------------------ the thread

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = start_daemon(self._work, "amltk-slurm-jobs")
            if self._thread is None:
                raise RuntimeError("no thread can be started, which jobs of Slurm need: the limit is reached")

    def _work(self) -> None:
        try:
            while self._wait():
                self._work_once()
        except Exception as error:  # noqa: BLE001 - a defect, or what user's arguments raise: nothing may wait in vain
            self._owner.fail(error)

    def _work_once(self) -> None:
        try:
            self._cancel_unwanted()
            self._clear_left()
            self._look_at_queue()
            self._submit_new()
        except (slurm.QueueUnknownError, OSError) as error:
            self._note_silence(error)
        try:  # Jobs go on while Slurm does not answer.
            self._look_at_files()
            self._clean_up()
        except OSError as error:
            self._note_silence(error)

    def _wait(self) -> bool:
        """Wait until there is something to do; False at the end."""
        with self._changed:
            has_orders = bool(self._unwanted or self._over or self._left)
            if self._closing and not has_orders:
                return False
            if not (has_orders or self._new or self._sent):
                self._changed.wait()
            elif self._silences or not (has_orders or self._has_room()):
                self._changed.wait(min(self._pause, LONGEST_LOOK))
            return True

    def _has_room(self) -> bool:
        if not self._new or time.monotonic() < self._full_until:
            return False
        return self._max_jobs is None or len(self._sent) < self._max_jobs

    def _note_full(self, error: Exception) -> None:
        """Submit again later, when jobs have ended."""
        if not self._has_been_full:
            _log.warning("Slurm takes no more jobs for now, so the other calls wait: %s", error)
        self._has_been_full = True
        self._full_until = time.monotonic() + self._pause

    def _note_silence(self, error: Exception) -> None:
        """Ask again later. Jobs go on meanwhile."""
        if not self._silences:
            _log.warning("Slurm, or the file system, does not answer as it should, and is asked again: %s", error)
        self._silences += 1
        self._due = time.monotonic() + self._pause
        if self._closing and self._silences > MOST_SILENCES:
            numbers = " ".join(job.number for job in self._unwanted if job.number)
            if numbers:
                _log.warning("Slurm does not answer, so these jobs may go on: end them by scancel %s", numbers)
            self._unwanted.clear()
            self._left.clear()

    def _cancel_unwanted(self) -> None:
        with self._changed:
            jobs = list(self._unwanted)
            for job in jobs:
                self._new.pop(job, None)  # it was just to be submitted, and is to be tried again
        if not jobs:
            return
        for job in jobs:
            self._sent.pop(job, None)
            job.files = job.files or self._owner.find(job)
        # By their names: a number may have been given to another job, and a call may have two jobs.
        names = {job.files.job_name for job in jobs if job.files is not None}
        if names:
            slurm.cancel(job.number for job in slurm.active(names))
            self._silences = 0
        for job in jobs:
            self._unwanted.remove(job)
            if job.files is not None:
                job.files.close()

    def _clear_left(self) -> None:
        if not self._left:
            return
        going_on = [files for files in self._left if files.what() is not None and files.read_outcome() is None]
        slurm.cancel(job.number for job in slurm.active({files.job_name for files in going_on}))
        while self._left:
            self._left.pop().close()

    # ------------------------------------------------------------------ submitting

    def _submit_new(self) -> None:
        until = time.monotonic() + LONGEST_LOOK  # what has been submitted must be looked at, too
        while time.monotonic() < until:
            with self._changed:
                if self._closing or self._unwanted or not self._has_room():
                    return
                job, _ = self._new.popitem(last=False)
            try:
                is_there = self._bring(job)
            except (slurm.QueueFullError, slurm.QueueUnknownError) as error:
                self._put_back(job)
                if isinstance(error, slurm.QueueUnknownError):
                    raise
                self._note_full(error)
                return
            except (OSError, ValueError, JobRefusedError) as error:
                self._owner.refuse(job, error)  # a `ValueError`: an option is no argument of any program
                if job.may_exist:
                    self._unwanted.append(job)
                continue
            if not is_there:
                self._put_back(job)
                with self._changed:
                    self._changed.wait(min(self._pause, LONGEST_LOOK))
                return
            self._sent[job] = None
            self._silences = 0

    def _put_back(self, job: Job) -> None:
        """Try again later."""
        with self._changed:
            if not self._is_left:
                self._new[job] = None
                self._new.move_to_end(job, last=False)

    def _bring(self, job: Job) -> bool:
        """Have a job in the queue; False if that must wait, since the last program is just submitting it."""
        files = job.files
        if files is None:
            files = self._owner.find(job)
            job.may_exist = job.may_be_two = files is not None
            job.files = files = files or self._owner.make(job)
        with files.submitting() as held:
            if held is None:
                return False
            if job.may_exist:
                job.number = self._find(files)
            if not job.number:
                self._submit(job, files, held)
            return True

    def _submit(self, job: Job, files: CallFiles, held: int) -> None:
        before = job.may_exist
        job.may_exist, job.may_be_two = True, before or job.may_be_two  # from now on, whatever sbatch says
        try:
            job.number = slurm.submit(str(files.script), self._owner.arguments(job), held)
        except (slurm.QueueFullError, JobRefusedError):
            job.may_exist = before
            raise
        files.note_submitted(job.number)

    @staticmethod
    def _find(files: CallFiles) -> str:
        """The number of a job that may have been submitted; empty if it was not."""
        if number := files.number:
            return number
        found = slurm.queue().get(files.job_name)
        known = found[0] if found else slurm.accounted(files.job_name, files.made_at)
        if known is None:
            return ""
        files.note_submitted(known.number)
        return known.number

    # ------------------------------------------------------------------ looking

    def _look_at_queue(self) -> None:
        now = time.monotonic()
        if not self._sent or now < self._due:
            return
        listed = slurm.queue()
        self._due = time.monotonic() + self._pause
        self._looks_from = 0.0  # some have ended
        self._silences = 0
        for job in list(self._sent):
            assert job.files is not None, "it was submitted"
            known = self._of(job, listed.get(job.files.job_name, ()))
            if known is not None:
                job.state, job.reason = known.state, known.reason
            if known is not None and known.is_active:
                job.lacks_since = None
                if known.state == "RUNNING" and not (job.has_begun and known.nodes == job.nodes):
                    job.has_begun, job.nodes = True, known.nodes
                    self._owner.begin(job, known.nodes)
            elif known is not None and known.has_failed:
                self._end(job, known)
            elif job.lacks_since is None:
                job.state, job.lacks_since = "ENDED", now
            elif now - job.lacks_since > LATE_SECONDS:
                self._end(job, known or slurm.accounted(job.files.job_name, job.files.made_at))

    def _of(self, job: Job, listed: Sequence[Listed]) -> Listed | None:
        """The one job that counts among those of a call, if `sbatch` was asked twice: the one that has the call."""
        if len(listed) > 1 or job.may_be_two:
            assert job.files is not None, "it was submitted"
            if claimed := job.files.claimed_by():
                if others := [other.number for other in listed if other.is_active and other.number != claimed]:
                    slurm.cancel(others)
                job.number = claimed
                return next((known for known in listed if known.number == claimed), None)
        return next((known for known in listed if known.is_active), listed[-1] if listed else None)

    def _end(self, job: Job, known: Listed | None) -> None:
        """Take the outcome of a job that has ended, or say that there is none."""
        if not self._take(job):
            self._sent.pop(job, None)
            self._owner.lose(job, known)

    def _look_at_files(self) -> None:
        now = time.monotonic()
        if now < self._looks_from:
            return
        self._looks_from = now + min(self._pause, LONGEST_LOOK) / 2  # not with each call that is submitted or ends
        ended = [job for job in self._sent if job.lacks_since is not None]
        others = (job for job in self._sent if job.lacks_since is None and job.state != "PENDING")
        for job in [*ended, *nsmallest(MOST_LOOKS, others, key=lambda job: job.looked_at)]:
            job.looked_at = now
            if not self._take(job) and not job.has_begun:
                assert job.files is not None, "it was submitted"
                if job.files.claimed_by():
                    job.has_begun = True
                    self._owner.begin(job, "")

    def _take(self, job: Job) -> bool:
        assert job.files is not None, "it was submitted"
        outcome = job.files.read_outcome()
        if outcome is None:
            return False
        self._sent.pop(job, None)
        self._owner.take(job, outcome)
        return True

    def _clean_up(self) -> None:
        while self._over:
            self._over.popleft().close()
