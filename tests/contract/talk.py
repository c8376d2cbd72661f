"""Functions for the comm tests: importable, so that every executor can run them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import CommError

if TYPE_CHECKING:
    from amltk.scheduling import Comm


def count(n: int, *, comm: Comm) -> int:
    """Send numbers."""
    with comm.open("begin"):
        for i in range(n):
            comm.send(i)
        comm.close("end")
    return n


def ask(*questions: Any, comm: Comm) -> list[Any]:
    """Return the responses."""
    with comm.open():
        return [comm.request(question) for question in questions]


def ask_and_tell(question: Any, *, comm: Comm) -> str:
    """Return the response to a request, or the reason for its failure."""
    with comm.open():
        try:
            return str(comm.request(question))
        except CommError as error:
            return f"{type(error).__name__}: {error}"


def listen(*, comm: Comm) -> list[Any]:
    """Receive until None arrives."""
    heard = []
    with comm.open():
        while (word := comm.receive()) is not None:
            heard.append(word)
    return heard


def open_twice(*, comm: Comm) -> None:
    """Open a comm again."""
    for n in range(2):
        with comm.open(n):
            comm.send(n)


def leave_open(*, raises: bool, comm: Comm) -> None:
    """Return or raise without closing the comm."""
    comm.open()
    comm.send("last words")
    if raises:
        raise ValueError("too much")


def say_nothing(*, comm: Comm) -> str:
    """Leave the comm unused."""
    with pytest.raises(CommError):
        comm.send(1)
    return "silent"


def train(epochs: int, *, comm: Comm) -> int:
    """Send a score each epoch, and obey the response."""
    with comm.open():
        for epoch in range(epochs):
            if comm.request(epoch) == "stop":
                return epoch
    return epochs


def train_deaf(epochs: int, *, comm: Comm) -> int:
    """Send a score each epoch, and never receive."""
    with comm.open():
        for epoch in range(epochs):
            comm.send(epoch)
            comm.request()  # so that it does not outrun its callbacks
    return epochs


def wait_for_ever(*, comm: Comm) -> None:
    """Run until cancelled."""
    with comm.open():
        comm.send("here")
        comm.receive()


def look_at_data(*, comm: Comm) -> tuple[int, int, bool]:
    """Ask for shared data, and return its size as it came in the response and in a message, and whether it is one."""
    with comm.open():
        answered = comm.request(None)["x"][0]
        sent = comm.receive()
    return len(answered.data), len(sent.data), answered is sent
