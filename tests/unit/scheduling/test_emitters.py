"""Custom emitters and events, used as in other packages' documentation."""

from __future__ import annotations

from typing import Any

import pytest

from amltk.exceptions import EventNotKnownError
from amltk.scheduling import Emitter, Event, Scheduler, Subscriber

TEST: Event[[int, str]] = Event("test")


def test_an_event_needs_no_announcement() -> None:
    """An event can be subscribed to and emitted in any order, on any emitter."""
    emitter = Emitter("mine")
    seen: list[Any] = []
    subscribe = emitter.subscriber(TEST)

    @subscribe
    def callback(a: int, b: str) -> None:
        seen.append((a, b))

    subscribe(lambda a, b: seen.append("second"))
    emitter.on(TEST)(lambda a, b: seen.append("third"))
    emitter.emit(TEST, 1, "hello")
    assert seen == [(1, "hello"), "second", "third"]
    assert subscribe.event_counts == emitter.event_counts[TEST] == 1
    assert emitter.events == [TEST]
    emitter.on("test")(lambda a, b: None)  # its name is known now
    Emitter().emit(TEST, 1, "nobody is there")


def test_a_name_that_is_not_known_stays_an_error() -> None:
    """A name may be misspelt: it must belong to a known event."""
    emitter = Emitter("mine")
    for use in (emitter.on, emitter.as_event, emitter.subscriptions):
        with pytest.raises(EventNotKnownError, match="mine has no event 'tset'"):
            use("tset")
    assert emitter.events == []


def test_events_of_a_scheduler_can_be_named() -> None:
    """Events of a scheduler can be named, like those of a task."""
    scheduler = Scheduler.with_sequential()
    seen: list[Any] = []
    scheduler.on("future-result", every=2)(lambda future, result: seen.append(result))
    scheduler.on("on_future_done")(lambda future: seen.append("done"))
    scheduler.on(TEST)(lambda a, b: seen.append((a, b)))
    scheduler.on_start(
        lambda: (scheduler.submit(abs, -1), scheduler.submit(abs, -2), scheduler.emitter.emit(TEST, 1, "a"))
    )
    scheduler.run()
    assert sorted(map(str, seen)) == ["(1, 'a')", "2", "done", "done"]
    with pytest.raises(EventNotKnownError, match=r"no event .future-resul.; it has .*future-result"):
        scheduler.on("future-resul")


def test_tasks_and_schedulers_emit_events_of_the_user() -> None:
    """During a run a custom event is delivered like any other."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(abs)
    seen: list[Any] = []
    task.on(TEST)(lambda a, b: seen.append((a, b)))
    Subscriber(scheduler.emitter, TEST)(lambda a, b: seen.append((b, a)))
    task.on_result(lambda *_: (task.emit(TEST, 1, "a"), scheduler.emitter.emit(TEST, 2, "b")))
    scheduler.on_start(lambda: task.submit(1))
    scheduler.run()
    assert seen == [(1, "a"), ("b", 2)]


def test_options_can_be_given_once_for_several_callbacks() -> None:
    """A subscriber with options is one too; an option given again overrides the earlier one."""
    emitter = Emitter("mine")
    seen: list[str] = []
    twice = emitter.on(TEST, max_calls=2, hidden=True)
    twice(lambda a, b: seen.append("twice"))
    once = twice(max_calls=1)
    once(lambda a, b: seen.append("once"))
    shown = once.register(lambda a, b: seen.append("shown"), hidden=False)
    for _ in range(3):
        emitter.emit(TEST, 1, "")
    assert seen == ["twice", "once", "shown", "twice"]
    assert isinstance(twice, Subscriber)
    assert not shown.hidden


def test_references_are_unique() -> None:
    """A reference contains the name, is the same each time, and belongs to one emitter only."""
    scheduler = Scheduler.with_sequential()
    tasks = [scheduler.task(abs) for _ in range(2)]
    references = {scheduler.unique_ref, *(task.unique_ref for task in tasks)}
    assert len(references) == 3
    assert tasks[0].unique_ref == tasks[0].unique_ref
    assert tasks[0].unique_ref.startswith("abs-")
    assert scheduler.unique_ref.startswith("Scheduler-")
