"""The inbox of a run with a journal: each input is recorded before it is handled, and recorded ones come first."""

from __future__ import annotations

from collections import deque
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from amltk.scheduling._loop.inbox import MAX_SLICE_SECONDS, Inbox

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future as Work

    from amltk.scheduling._journal.run_journal import RunJournal
    from amltk.scheduling._loop.turns import Turns

AT_ONCE = 200
"""How many recorded inputs are replayed at most before other things have their turn."""


class Recorder(Protocol):
    """Knows what inputs mean."""

    def admit(self, items: Iterable[Any]) -> list[Any]:
        """Record inputs; returns what to handle instead of them."""
        ...

    def step_name(self, call: Callable[..., object], args: tuple[Any, ...]) -> str:
        """The name of an input that the run has put off itself; empty for any other."""
        ...

    def check_from_elsewhere(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Raise a `JournalUnsupportedError` for what another thread may not ask for."""

    def keep_alive(self) -> None:
        """Go on recording now and then that the run is alive."""

    def check_suspended(self) -> None:
        """Note if the run is ending such that nothing is recorded any more."""


class JournaledInbox(Inbox):
    """Inputs arrive in a queue of their own. Those that came in together are recorded together, and then handled.

    While recorded inputs are replayed, what arrives waits, except for what the run has postponed itself: that is taken
    when its record comes.

    Args:
        loop: As in `Inbox`.
        turns: As in `Inbox`.
        journal: The journal.

    Attributes:
        waits_for: A step whose record has come, but that the run has not postponed yet: nothing is replayed meanwhile.
    """

    __slots__ = (
        "_admitted",
        "_arrived",
        "_batch",
        "_is_handling",
        "_journal",
        "_really_idle",
        "_recorder",
        "_replay_next",
        "_steps",
        "waits_for",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, turns: Turns, journal: RunJournal) -> None:
        super().__init__(loop, turns)
        self._journal = journal
        self._arrived: deque[Any] = deque()
        self._batch: list[Any] = []  # what is being recorded
        self._is_handling = False
        self._steps: dict[str, Any] = {}  # put off by the run, until their records come
        self.waits_for: str = ""
        self._admitted = False
        self._really_idle: Callable[[], None]
        self._recorder: Recorder
        self._replay_next: Callable[[], None]

    def connect(
        self,
        *,
        on_work: Callable[[Work[Any]], None],
        on_idle: Callable[[], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        """As in `Inbox`."""
        self._really_idle = on_idle
        super().connect(on_work=on_work, on_idle=self._admit_or_idle, on_crash=on_crash)

    def follow(self, recorder: Recorder, replay_next: Callable[[], None]) -> None:
        """Set what interprets inputs, and what replays the next recorded one or begins to record."""
        self._recorder = recorder
        self._replay_next = replay_next

    @property
    def replaying(self) -> bool:
        """Whether there are recorded inputs left to replay."""
        return self._journal.has_more

    def __len__(self) -> int:
        return super().__len__() + len(self._arrived) + len(self._batch) + self._journal.has_more

    def put_work(self, work: Work[Any]) -> None:
        """As in `Inbox`."""
        self._arrive(work)

    def put(self, call: Callable[..., object], *args: Any) -> None:
        """As in `Inbox`; from another thread, only what can be recorded."""
        if self.here():
            super().put(call, *args)
            return
        self._recorder.check_from_elsewhere(call, args)
        self._arrive((call, *args))

    def put_before_others(self, items: Iterable[Any]) -> None:
        """Put inputs in before those that have arrived and were not taken yet."""
        self._arrived.extendleft(reversed(list(items)))

    def put_back(self, item: Any) -> None:
        """Take an input later, behind those that have arrived."""
        self._arrived.append(item)

    def put_own(self, call: Callable[..., object], *args: Any) -> None:
        """As in `Inbox`."""
        self._arrive((self.run_own, call, *args))

    @staticmethod
    def run_own(call: Callable[..., object], *args: Any) -> None:
        """Make a call that is the run's own business, and is not recorded."""
        call(*args)

    def put_input(self, call: Callable[..., object], *args: Any) -> None:
        """As in `Inbox`."""
        self._put_input((call, *args))
        if not self._awake:
            self._wake()

    def put_and_wake(self, call: Callable[..., object], *args: Any) -> None:
        """As in `Inbox`."""
        self._put_input((call, *args))
        self.wake()

    def _put_input(self, item: tuple[Any, ...]) -> None:
        name = self._recorder.step_name(item[0], item[1:]) if self._journal.replaying else ""
        if name:
            self._steps[name] = item
            if name == self.waits_for:
                self.waits_for = ""
        else:
            self._arrived.append(item)

    def _arrive(self, item: Any) -> None:
        self._arrived.append(item)
        if not self._awake:
            self._wake()

    def close(self) -> None:
        """As in `Inbox`."""
        super().close()
        self._arrived.clear()
        self._steps.clear()

    # ------------------------------------------------------------------ for the recorder

    def take_step(self, name: str) -> Any:
        """Take what the run has put off under this name; None if it has not."""
        return self._steps.pop(name, None)

    def wait_for_step(self, name: str) -> None:
        """Tell nothing more until the run puts this off."""
        self.waits_for = name
        self._inputs.clear()

    def end_replay(self, put_first: Callable[[], None] | None = None) -> None:
        """Everything recorded was replayed: what has arrived meanwhile comes next, behind what `put_first` puts in."""
        self._inputs.clear()
        self.waits_for = ""
        later = [self._arrived.popleft() for _ in range(len(self._arrived))]
        if put_first is not None:
            put_first()
        self._arrived.extend(self._steps.values())
        self._arrived.extend(later)
        self._steps.clear()

    # ------------------------------------------------------------------ handling

    def is_handling(self) -> bool:
        """Whether what happens on the loop's thread now is caused by an input."""
        return self._is_handling

    def is_handling_here(self) -> bool:
        """Whether what happens now, on this thread, is caused by an input."""
        return self._is_handling and get_ident() == self._thread

    def _handle_for_a_while(self) -> None:
        self._is_handling = True
        try:
            self._handle_admitted()
        finally:
            self._is_handling = False

    def _handle_admitted(self) -> None:
        until = monotonic() + MAX_SLICE_SECONDS
        super()._handle_for_a_while()
        while self._admitted:
            self._admitted = False
            if monotonic() >= until:
                self._loop.call_soon(self._drain, context=self._context)
                return
            super()._handle_for_a_while()

    def _admit_or_idle(self) -> None:
        """Called when everything that was admitted has been handled, and all that it has caused."""
        if self._admit():
            self._admitted = self._awake = True
        else:
            if self._journal.recording:
                self._journal.flush()
            self._really_idle()
            if not self._journal.replaying:
                self._recorder.keep_alive()

    def _admit(self) -> bool:
        """Let more inputs in. Whether there are any."""
        self._recorder.check_suspended()
        if self._journal.has_more:
            if self.waits_for:
                return False
            self._inputs.extend([(self._replay_next,)] * AT_ONCE)
            return True
        if not self._arrived and not self._batch:
            return False
        arrived, batch = self._arrived, self._batch
        for _ in range(len(arrived)):
            batch.append(arrived.popleft())
        self._inputs.extend(self._recorder.admit(self._batch))
        self._batch = []  # not sooner: recording may raise, and then they are still handled
        return bool(self._inputs)
