"""Waits until nothing is in progress in a run, and says so by `@empty`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from amltk.scheduling.exit_state import ExitState
from amltk.scheduling.scheduler_events import SchedulerEvents as Events

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from amltk.scheduling._run.context import RunContext
    from amltk.scheduling._run.dispatch import Delivery
    from amltk.scheduling._run.end_requests import EndRequests


class Waiting:
    """Knows what is in progress in a run, and wakes the run's own task, which waits for its end.

    Owns the one waiter, and when `@empty` is due. On the loop's thread.

    Args:
        context: The run.
        delivery: Knows which coroutines of callbacks have not ended.
        end_requests: Receives a cancellation of the run's task, and the end of a run that has nothing left to do.
    """

    def __init__(self, context: RunContext, delivery: Delivery, end_requests: EndRequests) -> None:
        self._loop = context.loop
        self._inbox = context.inbox
        self._lifecycle = context.lifecycle
        self._pending_calls = context.pending_calls
        self._ends_on_empty = context.options.end_on_empty
        self._empty = context.channel(Events.EMPTY)
        self._delivery = delivery
        self._end_requests = end_requests
        self._waiter: tuple[Callable[[], bool], asyncio.Future[None]] | None = None
        self._accepted_at_empty = -1  # how many submissions there had been at the last @empty

    def is_quiet(self) -> bool:
        """Whether nothing is in progress: no submission, no coroutine of a callback, nothing to deliver."""
        return not self._pending_calls and not self._delivery.awaiting and not self._inbox

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, which is checked whenever everything that has happened was delivered."""
        while not condition():
            waiter = self._loop.create_future()
            self._waiter = condition, waiter
            await self.uncancelled(waiter)

    async def uncancelled(self, awaitable: Awaitable[None]) -> None:
        """Await `awaitable`. Cancelling the task of the run, such as by cancelling all tasks, ends the run cleanly.

        This does not count as an interrupt: cancelling all tasks also cancels the task that awaits the run.
        """
        try:
            await awaitable
        except asyncio.CancelledError as error:
            self._end_requests.end_at_once(error)

    async def until_quiet(self) -> None:
        """Wait until nothing is in progress. Another interrupt gives up coroutines of callbacks that refuse to end."""
        requests = self._end_requests
        interruptions = requests.n_interruptions
        await self.until(
            lambda: (
                self.is_quiet()
                or (requests.n_interruptions > interruptions and not self._pending_calls and not self._inbox)
            )
        )
        self._delivery.give_up()

    def wake(self) -> None:
        """Check the condition that is waited for."""
        if self._waiter is not None:
            condition, waiter = self._waiter
            if not waiter.done() and condition():  # checked here: waking the run's task takes longer
                waiter.set_result(None)

    def check_empty(self, *, due: bool) -> None:
        """Emit `@empty` if the last thing in progress has just ended, once after each submission.

        Args:
            due: Whether it ended before the end of the run was requested.
        """
        if not due or self._pending_calls or self._delivery.awaiting:
            return
        accepted = self._pending_calls.accepted
        if accepted != self._accepted_at_empty:
            self._accepted_at_empty = accepted
            self._delivery.tell(self._empty, ())

    def coroutine_ended(self, task: asyncio.Task[Any]) -> None:
        """Handle the end of a coroutine of a callback."""
        was_running = self._lifecycle.running
        self._delivery.finish(task)
        self.check_empty(due=was_running)

    def idle(self) -> None:
        """Handle that everything that has happened so far was delivered."""
        if self._lifecycle.running and self._ends_on_empty and self.is_quiet():
            self._end_requests.request(ExitState.Code.EXHAUSTED)
        self.wake()
