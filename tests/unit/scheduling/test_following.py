"""What a plugin learns about the delivery of an event."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Event, ExitState, Scheduler
from amltk.scheduling.call import Heard

if TYPE_CHECKING:
    from collections.abc import Callable

HAPPENED: Event[[int], Any] = Event("happened")


class Note:
    """A listener that records its notifications."""

    def __init__(self, notes: list[Any]) -> None:
        self.notes = notes

    def failed(self, error: BaseException) -> None:
        self.notes.append(repr(error))

    def begun(self, coroutine: asyncio.Task[Any]) -> None:
        self.notes.append("begun")
        coroutine.add_done_callback(lambda _: self.notes.append("ended"))

    def told(self) -> None:
        self.notes.append("told")


def heard(task: Any, number: int, follower: Note) -> Heard:
    """A message of a call of the task, as created by `Comm`."""
    return Heard(
        future=None,
        kind="message",
        place=0,
        payload=None,
        is_request=False,
        note=lambda: None,
        args=(number,),
        channel=task.channel(HAPPENED),
        follower=follower,
    )


def follow(*callbacks: Callable[[int], Any], at_once: bool = False) -> list[Any]:
    """Deliver an event in a call of a SequentialExecutor; return what was recorded."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(lambda: deliver())
    task.add_event(HAPPENED)
    notes: list[Any] = []

    def deliver() -> None:
        scheduler.current_run.deliver(heard(task, 1, Note(notes)), at_once=at_once)
        notes.append("returned")

    for callback in callbacks:
        task.on(HAPPENED)(callback)
    scheduler.on_start(lambda: task.submit())
    scheduler.run(on_callback_exception="continue")
    assert task.event_counts[HAPPENED] == 1
    return notes


def fail(_: int) -> None:
    raise ValueError("failed")


async def wait(_: int) -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("callbacks", [(), (lambda x: x,)])
def test_a_delivery_is_told(callbacks: Any) -> None:
    """A delivery is reported with or without subscribers, and at once if compute on the loop's thread asks for it."""
    assert follow(*callbacks) == ["returned", "told"]
    assert follow(*callbacks, at_once=True) == ["told", "returned"]


def test_what_callbacks_raise_and_await() -> None:
    """An error is reported when it is raised; a coroutine when it starts, so that its end can be awaited."""
    assert follow(fail, wait, fail, at_once=True) == [
        *("ValueError('failed')", "begun", "ValueError('failed')", "told"),
        *("returned", "ended"),
    ]


def test_what_happened_before_is_told_before() -> None:
    """An event that compute on the loop's thread delivers at once comes after all events already under way."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(lambda: deliver())
    task.add_event(HAPPENED)
    seen: list[int] = []
    task.on(HAPPENED)(seen.append)

    def deliver() -> None:
        task.emit(HAPPENED, 1)
        task.emit(HAPPENED, 2)
        scheduler.current_run.deliver(heard(task, 3, Note([])), at_once=True)
        assert seen == [1, 2, 3]

    scheduler.on_start(lambda: task.submit())
    assert scheduler.run().code is ExitState.Code.EXHAUSTED
