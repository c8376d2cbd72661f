"""Messages of running calls: recorded as inputs, and replayed without the calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk.journal.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from amltk.journal.format import Record
    from amltk.scheduling._run.journaled.run import JournaledRun
    from amltk.scheduling.call import Call, Conversing, Heard
    from amltk.scheduling.future import Future


class Messages:
    """Knows what to record of the messages of calls, and which calls may still have some. On the loop's thread.

    Whether a plugin has held an ending back until all messages were delivered depends on connections, which a replay
    does not have. So then such endings are held back in any case, until their records come.
    """

    def __init__(self) -> None:
        self._run: JournaledRun
        self._ended: dict[int, Future[Any]] = {}  # computed, but not concluded

    def connect(self, run: JournaledRun) -> None:
        """Say whose messages these are, once the run has its parts."""
        self._run = run

    @staticmethod
    def write(heard: Heard) -> tuple[Kind, dict[str, Any], bytes | None, int]:
        """What to record of a message."""
        head: dict[str, Any] = {"message": heard.kind}
        if heard.place:
            head["comm"] = heard.place
        if heard.is_request:
            head["request"] = True
        return Kind.MESSAGE, head, heard.payload, heard.future.number

    def note_outcome(self, future: Future[Any]) -> None:
        """Note, in the replay, that a call was computed: messages may follow until it is concluded."""
        if future.call is not None:
            self._ended[future.number] = future

    def of_record(self, record: Record, future: Future[Any] | None, payload: bytes | None) -> Heard | None:
        """The message of a record; None if its call has no comm.

        Args:
            record: The record.
            future: The future of the call, if it was not computed yet.
            payload: The value of the record.
        """
        future = self._ended.get(record.call or 0) if future is None else future
        call: Call | None = None if future is None else future.call
        place = record.head.get("comm", 0)
        if call is None or place >= len(call.conversations):
            return None
        kind, is_request = record.head["message"], record.head.get("request", False)
        conversation: Conversing = call.conversations[place]
        return conversation.hear_again(kind, payload, is_request=is_request)

    def end_hold(self, number: int) -> bool:
        """Hold an ending back no longer, in the replay. Whether it was held back because of messages."""
        future = self._ended.pop(number, None)
        if future is None or future.call is None:
            return False
        held = [conversation.end_hold() for conversation in future.call.conversations]
        return any(held)

    def go_live(self, expected: Iterable[Future[Any]]) -> None:
        """Everything recorded was replayed: the conversations with calls of earlier sessions are over.

        Args:
            expected: The futures that were not computed.
        """
        for future in (*self._ended.values(), *expected):
            for conversation in () if future.call is None else future.call.conversations:
                conversation.go_live()
        self._ended.clear()
