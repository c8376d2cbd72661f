"""The end of a run: brings every submission to its end, and then the executor."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from amltk._notes import safe_repr
from amltk._process.threads import start_daemon
from amltk.exceptions import ExecutorBrokenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling._run.calls.settlement import Settlement
    from amltk.scheduling._run.context import RunContext
    from amltk.scheduling._run.dispatch import Delivery
    from amltk.scheduling._run.end_requests import EndRequests
    from amltk.scheduling._run.waiting import Waiting

_log = logging.getLogger(__name__)

KILLING_SECONDS = 2.0
"""How long an executor that really kills may take to do so, even if a user insists: giving up half-way would leave
processes behind."""


class Shutdown:
    """Ends a run's calls and its executor, once `@finishing` was delivered. One task, on the loop's thread.

    Owns nothing that outlives `close_down`. What may block is done by a thread.

    Args:
        context: The run.
        delivery: Has the coroutines of callbacks.
        end_requests: Knows whether a user insists, and takes what the executor raises.
        waiting: Waits for what is in progress.
        settlement: Has the futures that plugins hold back.
    """

    def __init__(
        self,
        context: RunContext,
        delivery: Delivery,
        end_requests: EndRequests,
        waiting: Waiting,
        settlement: Settlement,
    ) -> None:
        self._loop = context.loop
        self._inbox = context.inbox
        self._backend = context.backend
        self._waits = context.options.wait
        self._lifecycle = context.lifecycle
        self._pending_calls = context.pending_calls
        self._delivery = delivery
        self._end_requests = end_requests
        self._waiting = waiting
        self._settlement = settlement

    async def close_down(self) -> None:
        """Bring every submission to its end, then the executor."""
        lifecycle, waiting = self._lifecycle, self._waiting
        await waiting.until(lambda: not self._inbox.replaying or lifecycle.abandon)
        if self._waits:
            self._backend.expect_end()
            await waiting.until(lambda: waiting.is_quiet() or lifecycle.abandon)
            if not lifecycle.abandon:
                await self._in_thread(self._backend.close, unless=lambda: lifecycle.abandon)
                # Timers may have begun coroutines meanwhile.
                await waiting.until(lambda: waiting.is_quiet() or lifecycle.abandon)
        if not self._waits or lifecycle.abandon:
            await self._abandon_compute()

    async def _abandon_compute(self) -> None:
        """Cancel what has not begun, kill what runs if possible, and write off the rest."""
        requests = self._end_requests
        requests.begin_to_abandon()
        self._settlement.hooks.drop_all()
        # A broken executor fails its futures without help, and must not be disturbed: before CPython 3.12.3 a future
        # that is cancelled at that moment raises in the standard library's thread, which then fails no other.
        is_broken = isinstance(self._lifecycle.cause.exception, ExecutorBrokenError)
        if not is_broken:
            self._inbox.put_input(requests.expect_losses)  # what ended before this is delivered with its real outcome
        for n, future in enumerate(() if is_broken else self._pending_calls):
            if future.work is not None:
                self._backend.withdraw(future.work)
            if n % 1000 == 0:
                await self._waiting.uncancelled(asyncio.sleep(0))
        patience_until = self._loop.time() + (KILLING_SECONDS if self._backend.kills else 0.0)
        await self._in_thread(
            self._backend.end_calls, unless=lambda: requests.insisted and self._loop.time() >= patience_until
        )
        self._write_off()
        self._delivery.cancel_coroutines()
        await self._waiting.until_quiet()

    def _write_off(self) -> None:
        """End everything that is still pending as cancelled, whatever its outcome may be."""
        left = 0
        for future in self._pending_calls:
            work = future.work
            if work is not None:
                left += self._backend.is_running(work)
                self._inbox.put_work(work)  # in case it never reports an end
            future.cancel()
        if left and self._backend.is_own:
            calls = "1 running call" if left == 1 else f"{left} running calls"
            _log.warning(
                "%s cannot be killed in %r: running calls go on, and their outcomes are dropped",
                calls,
                self._backend.executor,
            )

    async def _in_thread(self, fn: Callable[[], None], *, unless: Callable[[], bool]) -> None:
        """Call a function that may block without blocking the loop; stop waiting for it once `unless` is true."""
        ended = False

        def note_end() -> None:
            nonlocal ended
            ended = True
            self._waiting.wake()

        def work() -> None:
            try:
                fn()
            except BaseException as error:  # noqa: BLE001 - reported to the policy
                where = f"termination of {safe_repr(self._backend.executor)}"
                self._inbox.put_own(self._end_requests.callback_failed, error, where)
            finally:
                # Through the inbox: what ended before this is delivered with its real outcome before the rest is
                # written off.
                self._inbox.put_own(note_end)

        thread = start_daemon(work, "amltk-shutdown")
        if thread is None:
            work()  # rather block the loop than leave processes behind
        await self._waiting.until(lambda: ended or unless())
        if ended and thread is not None:
            thread.join()
