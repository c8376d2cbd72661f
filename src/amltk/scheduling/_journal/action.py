"""What a callback does that is recorded: a submission, a cancellation, a request to end the run, a value made once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from amltk.journal.kinds import Kind


class Action(NamedTuple):
    """Something that a callback does, and that is recorded.

    Attributes:
        kind: The kind of its record.
        call: The number of the call that it is about; None if it is about none.
        head: The head of its record, without `by`.
        value: The value of its record.
        given: What the value is a pickle of, to compare.
        label: What it is, for messages.
    """

    kind: Kind
    call: int | None
    head: Mapping[str, Any]
    value: bytes | None
    given: Any
    label: Callable[[], str]
