"""Lets plugins review the outcome of an attempt before the ending of its future is delivered."""

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
    """Calls the reviews of a call, and holds its ending back as long as one of them requests. On the loop's thread.

    Owns the futures that are held back, with their outcomes.

    Args:
        loop: The loop of the run.
        inbox: What follows goes through it as an input, after events of the plugins: `Comm` uses it in the same way.
        conclude: Called with a future and its outcome once no plugin holds its ending back.
        repeat: Called with a future and its call instead, if a plugin wants another attempt. Returns whether one is
            made; a run that is ending makes none.
        on_error: Called with what a plugin raised and a description of the place.
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

    def ask(self, future: Future[Any], call: Call, outcome: Outcome) -> bool:
        """Let all plugins of the call review an outcome. Return whether any of them holds the ending back."""
        holds = [hold for review in call.reviews if (hold := self._answer(future, review, outcome)) is not None]
        if not holds:
            self._inbox.put_input(self._conclude, future, outcome)
            return False
        self._held[future] = holds, outcome
        done = asyncio.gather(*holds, return_exceptions=True)
        done.add_done_callback(partial(self._inbox.put_input, self.answered, future, call))
        return True

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
        """Stop waiting for plugins. Return whether any plugin was holding this future back.

        What they emit because of this is delivered before the ending.
        """
        holds, outcome = self._held.pop(future, ((), None))
        for hold in holds:
            hold.cancel()
        if outcome is None:
            return False
        self._inbox.put_input(self._conclude, future, outcome)
        return True

    def drop_all(self) -> None:
        """Do the same for all futures that are held back."""
        for future in list(self._held):
            self.drop(future)

    def answered(self, future: Future[Any], call: Call, done: asyncio.Future[list[Any]]) -> None:
        """Continue when no plugin holds the future back any more."""
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
