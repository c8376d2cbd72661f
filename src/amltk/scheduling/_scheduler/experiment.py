"""What a scheduler offers to programs whose runs have a journal, and that works without one as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from amltk._process import clock
from amltk.scheduling._scheduler.current_run import CurrentRun
from amltk.scheduling.events import callback_name

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Coroutine

    from amltk.scheduling._journal.run_journal import RunJournal
    from amltk.scheduling._run.journaled.run import JournaledRun

R = TypeVar("R")


class Experiment(CurrentRun):
    """Gives callbacks what would differ at a replay if they took it from elsewhere.

    Owns the journal of the run while there is one. On the thread of the run's loop, but for `replaying`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._journal: RunJournal | None = None  # the journal of the run
        self._random: random.Random | None = None

    @property
    def replaying(self) -> bool:
        """Whether callbacks are told what an earlier session has recorded; False in a run without a journal."""
        journal = self._journal
        return journal is not None and journal.replaying

    def has_journal(self) -> bool:
        """Whether the run in progress, if there is one, has a journal."""
        return self._journal is not None

    @property
    def random(self) -> random.Random:
        """A generator of random numbers for callbacks. In a run with a journal it has the journal's own seed.

        A program that takes all its random choices from here, or from generators that are seeded from here, makes the
        same ones when it is started again.
        """
        if self._journal is not None:
            return self._journal.random
        if self._random is None:
            from random import Random  # few programs need it

            self._random = Random()
        return self._random

    def now(self) -> float:
        """The time, in seconds since the epoch. In a run with a journal, when what callbacks are told was recorded.

        So it does not change while a callback works, and is the same when the program is started again.
        """
        return clock.now() if self._journal is None else self._journal.now

    @overload
    def once(
        self,
        fn: Callable[..., Coroutine[Any, Any, R]],
        /,
        *args: Any,
        save: Callable[[R], Any] | None = None,
        load: Callable[[Any], R] | None = None,
    ) -> Awaitable[R]: ...
    @overload
    def once(
        self,
        fn: Callable[..., R],
        /,
        *args: Any,
        save: Callable[[R], Any] | None = None,
        load: Callable[[Any], R] | None = None,
    ) -> R: ...
    def once(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        save: Callable[[Any], Any] | None = None,
        load: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Call `fn(*args)` in a callback, once in the life of an experiment: its value is recorded in the journal.

        For what would be different next time, or takes long: an unseeded sampler, a file that changes, a request to a
        server. When the program is started again, the recorded value is returned instead. In a run without a journal
        this just calls `fn`. What `fn` raises is not recorded. Only the name of `fn` is compared with the record: with
        other arguments, the recorded value is returned as well.

        With an `async def`, an `async def` callback awaits what does not belong to the run: `await
        scheduler.once(fetch, url)`. When it ends, that is an input like the end of a call: its value, or what it
        raised, is recorded. If the program is killed before, it is called again.

        Args:
            fn: A function, or an `async def`, that is called in this process.
            *args: Its arguments.
            save: Makes what is recorded of the value, if it is not the value itself; it must be possible to pickle it.
            load: Makes the value of what is recorded, if that is not the value itself.

        Returns:
            The value; for an `async def`, what to await for it.

        Raises:
            SchedulerNotRunningError: There is no run.
            JournalError: What is to be recorded cannot be pickled.
            JournalMismatchError: The program does something else than what is recorded.
        """
        run = self._run
        if run is None:
            raise self._not_started(f"call once({callback_name(fn)})")
        if self._journal is None:
            return fn(*args)
        return cast("JournaledRun", run).once(fn, args, save, load)
