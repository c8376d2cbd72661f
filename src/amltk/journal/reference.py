"""What is pickled in place of a future among the arguments of a call."""

from __future__ import annotations

from typing import NamedTuple


class CallReference(NamedTuple):
    """Stands for the future of an earlier call, whose result the call was given.

    Attributes:
        number: The number of that call.
    """

    number: int

    def __repr__(self) -> str:
        return f"<call {self.number}>"
