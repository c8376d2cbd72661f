"""What `async def` callbacks await that does not belong to the run: it is done once, and its outcome is recorded."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk.journal.kinds import Kind
from amltk.scheduling._journal.values import dump, dump_error, load
from amltk.scheduling.call import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from amltk.journal.format import Record
    from amltk.scheduling._journal.inbox import JournaledInbox
    from amltk.scheduling._journal.run_journal import RunJournal


class ForeignFuture(asyncio.Future[Any]):
    """What a callback awaits in place of a foreign coroutine."""


class Foreign(NamedTuple):
    """One foreign coroutine.

    Attributes:
        number: Its place in the order in which callbacks have asked for them.
        name: The name of its function.
        begin: Makes it.
        save: Makes what is recorded of its value, if that is not the value itself.
        restore: The opposite.
        future: What the callback awaits.
    """

    number: int
    name: str
    begin: Callable[[], Coroutine[Any, Any, Any]]
    save: Callable[[Any], Any] | None
    restore: Callable[[Any], Any] | None
    future: ForeignFuture


class ForeignWaits:
    """Awaits foreign coroutines for callbacks, and records their ends as inputs. On the loop's thread.

    At a replay they do not begin: their records say what came of them. Those that have none begin when everything
    recorded was replayed.

    Args:
        journal: The journal.
    """

    def __init__(self, journal: RunJournal) -> None:
        self._journal = journal
        self._loop: asyncio.AbstractEventLoop
        self._inbox: JournaledInbox
        self._pending: dict[int, Foreign] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.made: int = 0

    def connect(self, loop: asyncio.AbstractEventLoop, inbox: JournaledInbox) -> None:
        """Say whose loop and inputs these are, once the run has its parts."""
        self._loop, self._inbox = loop, inbox

    def wait_for(
        self,
        name: str,
        begin: Callable[[], Coroutine[Any, Any, Any]],
        save: Callable[[Any], Any] | None,
        restore: Callable[[Any], Any] | None,
    ) -> ForeignFuture:
        """What a callback is to await; it ends as the coroutine does, or as that did in an earlier session."""
        foreign = Foreign(self.made, name, begin, save, restore, ForeignFuture(loop=self._loop))
        self.made += 1
        self._pending[foreign.number] = foreign
        if not self._journal.replaying:
            self._begin(foreign)
        return foreign.future

    def _begin(self, foreign: Foreign) -> None:
        task = self._loop.create_task(foreign.begin(), name=foreign.name)
        self._tasks.add(task)
        foreign.future.add_done_callback(lambda _: task.cancel())  # the callback waits no longer
        task.add_done_callback(partial(self._note_end, foreign))

    def _note_end(self, foreign: Foreign, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            ending = Outcome(None, None, True)
        else:
            error = task.exception()
            ending = Outcome(None if error is not None else task.result(), error, False)
        self._inbox.put_input(self.end, foreign, ending)

    @staticmethod
    def write(foreign: Foreign, ending: Outcome) -> tuple[Kind, dict[str, Any], bytes | None, None]:
        """What to record of an end.

        Raises:
            JournalError: The value cannot be pickled.
        """
        head: dict[str, Any] = {"once": foreign.number, "task": foreign.name}
        result, error, cancelled = ending
        if cancelled:
            return Kind.WAKEUP, head | {"cancelled": True}, None, None
        if error is not None:
            return Kind.WAKEUP, head | {"type": type(error).__name__}, dump_error(error), None
        saved = result if foreign.save is None else foreign.save(result)
        return Kind.WAKEUP, head, dump(saved, lambda: f"the value of once({foreign.name})"), None

    def of_record(self, record: Record) -> tuple[Foreign, Outcome] | None:
        """What a record is about; None if callbacks have not asked for it."""
        foreign = self._pending.get(record.head["once"])
        if foreign is None or foreign.name != record.head.get("task"):
            return None
        if record.head.get("cancelled"):
            return foreign, Outcome(None, None, True)
        value = load(self._journal.playback.value(record), lambda: f"the value of once({foreign.name})")
        if "type" in record.head:
            return foreign, Outcome(None, value, False)
        return foreign, Outcome(value if foreign.restore is None else foreign.restore(value), None, False)

    def end(self, foreign: Foreign, ending: Outcome) -> None:
        """Let the callback go on, as an input."""
        self._pending.pop(foreign.number, None)
        future = foreign.future
        if future.done():
            return  # the callback waits no longer
        if ending.cancelled:
            future.cancel()
        elif ending.error is not None:
            future.set_exception(ending.error)
        else:
            future.set_result(ending.result)

    def go_live(self) -> None:
        """Everything recorded was replayed: begin those that have not ended."""
        for foreign in self._pending.values():
            if not foreign.future.done():
                self._begin(foreign)

    def close(self) -> None:
        """The run is over: end those that nothing awaits."""
        for task in self._tasks:
            task.cancel()
