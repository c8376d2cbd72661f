"""What calls say in the tests of comms: importable, so that every executor can have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import CommError

if TYPE_CHECKING:
    from amltk.scheduling import Comm


def count(n: int, *, comm: Comm) -> int:
    """Say numbers."""
    with comm.open("begin"):
        for i in range(n):
            comm.send(i)
        comm.close("end")
    return n


def ask(*questions: Any, comm: Comm) -> list[Any]:
    """Bring home the responses."""
    with comm.open():
        return [comm.request(question) for question in questions]


def ask_and_tell(question: Any, *, comm: Comm) -> str:
    """What a request brings, or why not."""
    with comm.open():
        try:
            return str(comm.request(question))
        except CommError as error:
            return f"{type(error).__name__}: {error}"


def listen(*, comm: Comm) -> list[Any]:
    """Take what is sent until None is."""
    heard = []
    with comm.open():
        while (word := comm.receive()) is not None:
            heard.append(word)
    return heard


def open_twice(*, comm: Comm) -> None:
    """A comm may be opened again."""
    for n in range(2):
        with comm.open(n):
            comm.send(n)


def leave_open(*, raises: bool, comm: Comm) -> None:
    """End without closing it."""
    comm.open()
    comm.send("last words")
    if raises:
        raise ValueError("too much")


def say_nothing(*, comm: Comm) -> str:
    """Have a comm, and no use for it."""
    with pytest.raises(CommError):
        comm.send(1)
    return "silent"


def train(epochs: int, *, comm: Comm) -> int:
    """Tell a score each epoch, and do as is said."""
    with comm.open():
        for epoch in range(epochs):
            if comm.request(epoch) == "stop":
                return epoch
    return epochs


def train_deaf(epochs: int, *, comm: Comm) -> int:
    """Tell a score each epoch, and never listen."""
    with comm.open():
        for epoch in range(epochs):
            comm.send(epoch)
            comm.request()  # so that it is no faster than its callbacks
    return epochs


def wait_for_ever(*, comm: Comm) -> None:
    """Go on until cancelled."""
    with comm.open():
        comm.send("here")
        comm.receive()
