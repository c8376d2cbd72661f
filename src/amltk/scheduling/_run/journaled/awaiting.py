"""What `async def` callbacks of a run with a journal may wait for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from amltk.exceptions import JournalUnsupportedError
from amltk.scheduling._loop.turns import MAX_TURNS, Turns
from amltk.scheduling._run.journaled.foreign import ForeignFuture
from amltk.scheduling.future import Future

if TYPE_CHECKING:
    from collections.abc import Callable

OWN = frozenset({"amltk.scheduling.scheduler", "amltk.scheduling._results.outbox"})
"""The modules whose coroutines wait for nothing but events of the run, and for the body of a loop over results."""


class JournaledTurns(Turns):
    """Refuses coroutines that wait for anything that a replay would not bring: it is not recorded.

    They may wait for futures of the run, for several of them by `asyncio.gather`, for `wait_for_capacity`, and for
    `Scheduler.once`, which records what comes of a coroutine.

    The body of a loop over results is like a callback: while it works, no input is taken.

    Args:
        coroutine_of: Returns the user's coroutine behind a task.
        refuse: Called with the error before it is raised.
        is_recorded: Whether what happens now is recorded: not while the run ends without waiting.
    """

    def __init__(
        self,
        coroutine_of: Callable[[asyncio.Task[Any]], Any],
        refuse: Callable[[JournalUnsupportedError], None],
        is_recorded: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._is_recorded = is_recorded
        self._coroutine_of = coroutine_of
        self._refuse = refuse
        self._bare = 0  # waits for nothing since the last input
        self._is_held = False

    def at(self, task: asyncio.Task[Any], awaited: Any) -> None:
        """As in `Turns`.

        Raises:
            JournalUnsupportedError: A coroutine waits for something else.
        """
        super().at(task, awaited)
        if isinstance(awaited, Future | ForeignFuture):
            return
        if awaited is None:
            self._bare += 1
            if self._bare <= MAX_TURNS * len(self._awaited):
                return
            what = "turns of the loop, again and again (asyncio.sleep(0) in a loop)"
        elif _is_gathering(awaited) or _is_own(_innermost(self._coroutine_of(task))):
            return
        else:
            what = _description(_innermost(self._coroutine_of(task)), awaited)
        error = JournalUnsupportedError(
            f"the {task.get_name()} waits for {what}, which the journal cannot record: with journal=, an `async def`"
            " callback may wait for futures of the run, alone or by asyncio.gather, and for wait_for_capacity. Have"
            " each coroutine that is to go on beside others be a callback, `scheduler.on_start(partial(fn, x))`,"
            " and not a task, as in a TaskGroup or a gather of coroutines. Write `await scheduler.once(fn, ...)`"
            " for anything else, with an `async def` that waits for it"
        )
        self._refuse(error)
        raise error

    def interrupted(self, task: asyncio.Task[Any]) -> None:
        """As in `Turns`: a cancellation that does not come from what the coroutine awaits is refused.

        Raises:
            JournalUnsupportedError: Something has cancelled the task of the coroutine.
        """
        if task.cancelling() and self._is_recorded():
            error = JournalUnsupportedError(
                f"the {task.get_name()} is cancelled while it waits, which the journal cannot record: with journal=,"
                " asyncio.timeout and asyncio.wait_for cannot be used in an `async def` callback. Limit the wall"
                " time of the call by the plugin Limits, or cancel its future in a scheduler.call_later"
            )
            self._refuse(error)
            raise error

    def hold(self, on: bool) -> None:
        """Let no input be taken, or let it again."""
        self._is_held = on
        self.needed = self.needed or on

    def take(self) -> bool:
        """As in `Turns`."""
        if self._is_held:
            return True
        takes = super().take()
        if not takes:
            self._bare = 0
        return takes


def _is_gathering(awaited: Any) -> bool:
    children = getattr(awaited, "_children", ())
    return len(children) > 0 and all(isinstance(child, Future | ForeignFuture) for child in children)


def _innermost(coroutine: Any) -> Any:
    """The coroutine that really waits: others wait for it."""
    while hasattr(inner := getattr(coroutine, "cr_await", None), "cr_await"):
        coroutine = inner
    return coroutine


def _is_own(coroutine: Any) -> bool:
    frame = getattr(coroutine, "cr_frame", None)
    return frame is not None and frame.f_globals.get("__name__") in OWN


def _description(coroutine: Any, awaited: Any) -> str:
    code = getattr(coroutine, "cr_code", None)
    if code is asyncio.sleep.__code__:
        return "asyncio.sleep"
    if isinstance(awaited, asyncio.Task):
        return f"the task {awaited.get_name()}"
    return f"{type(awaited).__name__} in {code.co_qualname}" if code is not None else type(awaited).__name__
