"""What plugins make of the outcome of an attempt, before the ending of its future is told."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk._notes import safe_repr
from amltk.scheduling.events import callback_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling._loop.inbox import Inbox
    from amltk.scheduling.call import Call, Outcome, Review
    from amltk.scheduling.future import Future


class OutcomeHooks:
    """Asks the plugins of a call, and holds its ending back for as long as one of them wants. On the loop's thread.

    Args:
        loop: The loop of the run.
        inbox: Everything that follows goes through it as an input, after what the plugins have told: `Comm` does too.
        conclude: Called with a future and its outcome when no plugin holds its ending back any more.
        repeat: Called with a future and its call instead, when a plugin wants another attempt; returns whether there is
            one, which an ending run does not make.
        on_error: Called with what a plugin has raised and a text that says where.
    """

    __slots__ = ("_conclude", "_held", "_inbox", "_loop", "_on_error", "_repeat")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        inbox: Inbox,
        *,
        conclude: Callable[[Future[Any], Outcome], None],
        repeat: Callable[[Future[Any], Call], bool],
        on_error: Callable[[BaseException, str], None],
    ) -> None:
        self._loop = loop
        self._inbox = inbox
        self._conclude = conclude
        self._repeat = repeat
        self._on_error = on_error
        self._held: dict[Future[Any], tuple[list[asyncio.Future[bool]], Outcome]] = {}

    def ask(self, future: Future[Any], call: Call, outcome: Outcome) -> None:
        """Ask all plugins of the call about an outcome."""
        holds = [hold for review in call.reviews if (hold := self._answer(future, review, outcome)) is not None]
        if not holds:
            self._inbox.put_input(self._conclude, future, outcome)
            return
        self._held[future] = holds, outcome
        done = asyncio.gather(*holds, return_exceptions=True)
        done.add_done_callback(partial(self._inbox.put_input, self._answered, future, call))

    def _answer(self, future: Future[Any], review: Review, outcome: Outcome) -> asyncio.Future[bool] | None:
        try:
            hold: Any = review(outcome)
            if hold is not None and not (asyncio.isfuture(hold) and hold.get_loop() is self._loop):
                raise TypeError(
                    f"the review {callback_name(review)} returned {safe_repr(hold)}: it must return None, or a future"
                    " of the run's loop"
                )
        except BaseException as error:  # noqa: BLE001 - reported to the policy
            self._on_error(error, _where(future))
            return None
        answer: asyncio.Future[bool] | None = hold
        return answer

    def drop(self, future: Future[Any]) -> bool:
        """Wait for plugins no more, whether they let go or not; returns whether any has held this future back.

        What they tell at this is told before the ending.
        """
        holds, outcome = self._held.pop(future, ((), None))
        for hold in holds:
            hold.cancel()
        if outcome is None:
            return False
        self._inbox.put_input(self._conclude, future, outcome)
        return True

    def drop_all(self) -> None:
        """The same for all that are held back."""
        for future in list(self._held):
            self.drop(future)

    def _answered(self, future: Future[Any], call: Call, done: asyncio.Future[list[Any]]) -> None:
        """Go on when no plugin holds it back any more."""
        if future not in self._held:
            return  # it was not waited for
        _, outcome = self._held.pop(future)
        answers = done.result()
        for answer in answers:
            if isinstance(answer, Exception):
                self._on_error(answer, _where(future))
        if not (any(answer is True for answer in answers) and self._repeat(future, call)):
            self._conclude(future, outcome)


def _where(future: Future[Any]) -> str:
    return f"review by a plugin of {future.label}"
