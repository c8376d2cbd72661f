"""The open journal of one run: what it has recorded, and what is added."""

from __future__ import annotations

import asyncio
import random
from time import monotonic
from typing import TYPE_CHECKING, Any

from amltk._labels import arguments_in_short
from amltk._process import clock
from amltk._shield import shielded
from amltk.journal.kinds import Finish, Kind
from amltk.journal.session import this_session
from amltk.journal.writer import Writer
from amltk.scheduling._journal.comparison import Comparison
from amltk.scheduling._journal.heads import SubmissionHeads
from amltk.scheduling._journal.playback import Overview, Playback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from amltk.journal.folder import Folder
    from amltk.scheduling._journal.action import Action
    from amltk.scheduling._journal.options import Journal
    from amltk.scheduling._journal.playback import RecordedInput

SEED_BITS = 64

_SUBMISSION = int(Kind.SUBMISSION)  # members are slow to reach


class RunJournal:
    """What one run reads from its journal and writes to it. On the thread of the run's loop.

    It begins with what earlier sessions have recorded, if there is anything: then it is *replaying*, and nothing is
    written. From `go_live` on, what happens is recorded, until `suspend`.

    Owns the files of the journal until `close`. It has more than 25 methods because it is the one face of the journal
    for all parts of the run; most of them are two or three lines.

    Args:
        options: The user's options.

    Raises:
        JournalError: The journal cannot be opened; see its subclasses.

    Attributes:
        replaying: Whether recorded inputs are being replayed.
        recording: Whether anything that happens now belongs to the journal.
        current: The number of the record of the input that is being handled; 0 before the first one.
        now: When it was handled for the first time, in seconds since the epoch.
        seed: The seed of the journal, which no other one has.
        random: A generator with that seed.
        add_encoded: The method of the journal's `Writer`, for the records that every call has.
        comparison: Compares what the program does with what is recorded.
        at_end: Whether everything of a finished journal was replayed.
        awaits_worker: Whether the time of this session counts from the first worker on, which is not up yet.
    """

    def __init__(self, options: Journal) -> None:
        self._options = options
        overview = Overview()
        self._writer = Writer(options.folder, sync=options.sync, survey=overview.survey)
        self.add_encoded: Callable[..., int] = self._writer.add_encoded
        self.playback: Playback = Playback(self._writer.folder, overview)
        self.replaying: bool = overview.end.number > 1
        self.recording: bool = True
        self.current: int = 0
        self.now: float = clock.now()
        self.seed: int = random.SystemRandom().getrandbits(SEED_BITS) if overview.seed is None else overview.seed
        self.random: random.Random = random.Random(self.seed)
        self._heads = heads = SubmissionHeads()
        self.comparison: Comparison = Comparison(self, self.playback, heads, branches=options.on_mismatch == "branch")
        self.at_end: bool = False
        self.awaits_worker: bool = False
        self._waited = 0.0  # in this session, for the first worker
        self._late: list[tuple[Action, int]] = []  # done during the replay, and not recorded
        self._alive = 0.0  # at the input that is being replayed
        self._live_since = 0.0
        self._began_at = 0.0  # when this session began to record, in seconds since the epoch
        self._loop_starts_at = 0.0  # in seconds since the epoch
        self._clock: Callable[[], float] = float  # of the loop

    def __str__(self) -> str:
        return str(self._writer.folder)

    @property
    def folder(self) -> Folder:
        """Its folder."""
        return self._writer.folder

    @property
    def suspend_before(self) -> float | None:
        """As in `Journal`."""
        return self._options.suspend_before

    # ------------------------------------------------------------------ time

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the time from this loop, which begins a session of a new journal."""
        # The method of asyncio's own loops only calls `monotonic`, and each call of a task needs it several times.
        is_usual = getattr(loop.time, "__func__", None) is asyncio.BaseEventLoop.time
        self._clock = monotonic if is_usual else loop.time
        self._loop_starts_at = max(clock.now(), self.playback.overview.latest) - loop.time()
        if self.replaying:
            self.now = self.playback.overview.began
        else:
            self.go_live()
            self.now = self._began_at

    def time(self) -> float:
        """Now, in seconds since the epoch, on the clock of the loop."""
        return self._loop_starts_at + self._clock()

    @property
    def alive(self) -> float:
        """For how many seconds programs have used the journal; in a replay, up to the input that is being told."""
        return self._alive if self.replaying else self.playback.overview.alive + self._clock() - self._live_since

    @property
    def counted(self) -> float:
        """How many of these seconds count for the timeout: without those in which a first worker was awaited."""
        overview = self.playback.overview
        if self.replaying:
            return overview.counted(self.current, self.alive)
        return (overview.alive if self.awaits_worker else self.alive - self._waited) - overview.waited

    @property
    def has_more(self) -> bool:
        """Whether there are recorded inputs left to replay."""
        return self.replaying and not self.at_end

    # ------------------------------------------------------------------ inputs

    def tell(self, number: int, at: float, call: Callable[..., object], *args: Any) -> None:
        """Make the call that handles the input of record `number`."""
        self.current, self.now = number, at
        call(*args)

    def tell_again(self, told: RecordedInput, call: Callable[..., object], *args: Any) -> None:
        """The same for a recorded input."""
        frame, self._alive = told
        self.current, self.now = frame[0], frame[3]
        call(*args)

    def add_input(
        self, kind: Kind, head: Mapping[str, Any], value: bytes | None = None, *, call: int | None = None, at: float
    ) -> int:
        """Record an input, from `flush` on. Returns the number of its record."""
        return self._writer.add(kind, head, value, call=call, at=at)

    @shielded
    def flush(self) -> None:
        """Write what was added.

        Raises:
            JournalWriteError: The disk is full, or something else is wrong with it.
        """
        self._writer.flush()

    @property
    def n_records(self) -> int:
        """How many records the journal has."""
        return self._writer.number

    def note_alive(self) -> None:
        """Record that the program is alive. Raises as `flush` does."""
        self._writer.add(Kind.ALIVE, {}, at=self.time())
        self.flush()

    def note_worker(self) -> None:
        """Record that the first worker of this session is up, so that its time counts. Raises as `flush` does."""
        self._waited = self._clock() - self._live_since
        self.awaits_worker = False
        if self.recording:
            self._writer.add(Kind.WORKER, {}, at=self.time())
            self.flush()

    # ------------------------------------------------------------------ what callbacks do

    @shielded
    def add(self, action: Action) -> None:
        """Record what a callback does; in a replay, once that is over."""
        if self.replaying:
            self._late.append((action, self.current))
        else:
            self._write(action, self.current)

    def _write(self, action: Action, by: int) -> None:
        if action.kind == _SUBMISSION:
            self._write_submission(action, by)
        else:
            self._writer.add(action.kind, {**action.head, "by": by}, action.value, call=action.call, at=self.time())

    def _write_submission(self, action: Action, by: int) -> None:
        arguments = arguments_in_short(*action.given)
        self._writer.add_encoded(
            _SUBMISSION,
            self._heads.head(by=by, arguments=arguments, **action.head),
            action.value,
            action.call,
            self.time(),
        )

    def add_submission(
        self,
        task: str,
        number: int,
        value: bytes,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        more: Mapping[str, Any],
    ) -> None:
        """Record that a callback has submitted a call: the same as `add`, outside of a replay."""
        head = self._heads.head(task, self.current, arguments_in_short(args, kwargs), **more)
        self.add_encoded(_SUBMISSION, head, value, number, self._loop_starts_at + self._clock())

    # ------------------------------------------------------------------ sessions

    def is_finished(self) -> bool:
        """Whether everything recorded was replayed, and a finished run has nothing to add."""
        return self.playback.overview.finished and not self._late and not self.comparison.goes_further

    def go_live(self) -> None:
        """Begin to record: a session begins. Called when everything recorded was replayed, or when there is nothing."""
        if self.replaying:
            self.comparison.check_all_done()
        self.replaying = False
        self._live_since = self._clock()
        self._began_at = at = self.time()
        void = self.comparison.left_out()
        session = this_session()
        if self.playback.overview.seed is None:
            session["seed"] = self.seed
        if void:
            session["void"] = void
        if self.awaits_worker:
            session["awaits_worker"] = True
        self._writer.add(Kind.SESSION, session, at=at)
        for action, by in self._late:
            self._write(action, by)
        self._late = []
        self.flush()

    def begin_again(self, action: Action, begun: int) -> None:
        """Record that a call that was begun so many times in earlier sessions is computed once more."""
        head = {**action.head, "arguments": arguments_in_short(*action.given), "attempt": begun}
        self._writer.add(action.kind, head, action.value, call=action.call, at=self.time())

    def suspend(self, reason: str) -> None:
        """Record nothing more: what happens from now on is caused by the end of the session."""
        if self.recording and not self.replaying:
            self._writer.add(Kind.SUSPEND, {"reason": reason}, at=self.time())
        self.recording = self.replaying = False

    def finish(self, code: str, reason: str) -> None:
        """Record the end of the run, unless it was suspended, or is recorded already.

        Raises:
            JournalWriteError: It cannot be written.
        """
        if self.recording and not self.replaying:
            self._writer.add(Kind.FINISH, Finish(code=code, reason=reason), at=self.time())
            self.flush()
        self.recording = False

    def close(self) -> None:
        """Release the journal.

        Raises:
            JournalWriteError: Something could not be written.
        """
        self.playback.close()
        self._writer.close()
