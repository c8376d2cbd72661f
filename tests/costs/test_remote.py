"""What a call costs on executors over other libraries, beside what the library itself does."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from amltk.scheduling.executors.remote.executor import RemoteExecutor, RemoteFuture, compute
from tests.costs.counting import calls, per_task


class Library(RemoteExecutor):
    """Keeps what it is sent. All calls have the same outcome, which no worker had to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[RemoteFuture] = []
        self.payload = self.outcome = b""

    def _send(self, call: RemoteFuture, payload: bytes) -> None:
        self.sent.append(call)
        self.payload = payload

    def withdraw(self, call: RemoteFuture) -> bool:
        return True

    def _kill(self) -> bool:
        return True

    def _close(self, *, wait: bool) -> None:
        pass


def no_op(number: int) -> int:
    return number


def no_op_in_a_dictionary(numbers: dict[str, int]) -> dict[str, int]:
    return numbers


@pytest.mark.parametrize(
    ("fn", "argument", "here", "there"),
    [(no_op, 1, 53, 17), (no_op_in_a_dictionary, {"number": 1}, 60, 22)],
    ids=["plain values", "others"],
)
def test_a_call_on_another_library(fn: Any, argument: Any, here: float, there: float) -> None:
    """What is pickled by its name, and plain values, need none of cloudpickle's checks; a worker does little else."""
    library = Library()
    library.submit(fn, argument)
    library.outcome = compute(library.payload)
    ended: list[Future[Any]] = []

    def on_the_way(tasks: int) -> None:
        for _ in range(tasks):
            library.submit(fn, argument).add_done_callback(ended.append)
            library.end(library.sent.pop(), library.outcome)

    def in_the_worker(tasks: int) -> None:
        for _ in range(tasks):
            compute(library.payload)

    cost = per_task(calls, on_the_way)
    assert ended[-1].result(0) == argument
    assert cost.total <= here, f"\n{cost}"
    cost = per_task(calls, in_the_worker)
    assert cost.total <= there, f"\n{cost}"
