"""Tree views of schedulers and tasks."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from amltk.exceptions import MissingExtraError
from amltk.scheduling import Event, Limiter, Plugin, Scheduler, Task
from amltk.testing import EventRecorder, ManualExecutor, run_in_virtual_time
from tests.unit.display.drawing import lines, picture

PICTURE = """\
╭─ Scheduler ──────────────────────────────╮
│ executor  sequential                     │
│ state     not running                    │
│ queue     0 pending                      │
│                                          │
│ @start             1                     │
│ └── def launch()                         │
│ @finishing         1                     │
│ @finished          1                     │
│ @stop                                    │
│ @timeout                                 │
│ @empty             1                     │
│ @future-submitted  2                     │
│ @future-done       2                     │
│ @future-result     2                     │
│ @future-exception                        │
│ @future-cancelled                        │
│                                          │
│ Task train(x, lr=…)  0 pending           │
│ ├── plugin limiter  calls 2/2            │
│ ├── @submitted                     2     │
│ ├── @waiting                             │
│ ├── @done                          2     │
│ ├── @result                        2     │
│ │   └── async def report(future, result) │
│ ├── @exception                           │
│ ├── @cancelled                           │
│ ├── @call-limit-reached            1     │
│ ├── @concurrent-limit-reached            │
│ └── @disabled-due-to-running-task        │
╰──────────────────────────────────────────╯
"""


def train(x: int, lr: float = 0.1) -> int:
    return x


def a_run() -> Scheduler:
    """A scheduler that has run: one task, submitted twice."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(train, plugins=Limiter(max_calls=2))

    @scheduler.on_start(repeat=3)
    def launch() -> None:
        task.submit(1)

    @task.on_result
    async def report(future: Any, result: int) -> None: ...

    scheduler.run()
    return scheduler


def test_a_scheduler_after_a_run() -> None:
    """The tree shows executor, state, queue, each event with its count, the callbacks, and the tasks with theirs."""
    assert picture(a_run()) == PICTURE


def test_a_task_is_drawn_by_itself() -> None:
    """A task's own tree is the same as the one within its scheduler's."""
    scheduler = a_run()
    assert "\n".join(lines(scheduler.tasks[0])) in "\n".join(lines(scheduler))


def test_the_state_follows_the_run() -> None:
    """A scheduler is drawn as running, then as finishing, with what is pending at that moment."""
    executor = ManualExecutor()
    scheduler = Scheduler(executor)
    task = scheduler.task(train)
    seen: list[list[str]] = []

    @scheduler.on_start
    def launch() -> None:
        for n in range(1234):
            task.submit(n)
        seen.append(lines(scheduler))
        scheduler.stop()

    @scheduler.on_finishing
    def look() -> None:
        seen.append(lines(scheduler))

    run_in_virtual_time(scheduler.async_run(wait=False))
    running, finishing = seen
    assert running[1:4] == ["executor  ManualExecutor", "state     running", "queue     1,234 pending"]
    assert finishing[1:4] == ["executor  ManualExecutor", "state     finishing", "queue     1,234 pending"]
    assert "Task train(x, lr=…)  1,234 pending" in running


def test_hidden_callbacks_are_left_out() -> None:
    """Subscriptions with `hidden=True`, such as a recorder's, are not drawn."""
    scheduler = Scheduler.with_sequential()
    EventRecorder(scheduler)
    scheduler.on_start(train, hidden=True)
    scheduler.on_stop(scheduler.stop)
    drawn = "\n".join(lines(scheduler))
    assert "train" not in drawn
    assert "_record" not in drawn
    assert "def Scheduler.stop(*args, stop_msg=…, exception=…, **kwargs)" in drawn


def test_names_of_users_are_no_markup() -> None:
    """Brackets, control characters and emoji codes in names of events, plugins and functions stay literal."""

    class Odd(Plugin):
        name = "[bold]:smile:"

        def status(self) -> str:
            return "\x1b[2J[/]"

        def events(self) -> list[Event[..., Any]]:
            return [Event("[red]x")]

    def function() -> None: ...

    function.__qualname__ = "[link=x]f"
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(function, plugins=Odd())
    task.register("[red]x", function)
    drawn = lines(task)
    assert drawn[:2] == ["Task [link=x]f()  0 pending", r"├── plugin [bold]:smile:  \x1b[2J[/]"]
    assert drawn[-2:] == ["└── @[red]x", "└── def [link=x]f()"]


def test_long_names_do_not_break_the_lines() -> None:
    """At 80 columns each item keeps to one line, however long its name is."""

    def function() -> None: ...

    function.__qualname__ = "f" * 200
    scheduler = Scheduler.with_sequential()
    short = len(lines(scheduler))
    scheduler.on_start(function)
    assert len(lines(scheduler)) == short + 1
    assert max(map(len, picture(scheduler).splitlines())) == 80


def test_drawing_does_not_go_through_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 10,000 pending futures a tree is drawn without touching any of them."""
    scheduler = Scheduler(ManualExecutor())
    task = scheduler.task(train)
    drawn: list[list[str]] = []

    @scheduler.on_start
    def launch() -> None:
        for n in range(10_000):
            task.submit(n)
        with monkeypatch.context() as patch:
            patch.setattr(Scheduler, "queue", property())
            patch.delattr(Task, "queue")
            drawn.append(lines(scheduler))
        scheduler.stop()

    run_in_virtual_time(scheduler.async_run(wait=False))
    assert "queue     10,000 pending" in drawn[0]


def test_without_rich_the_error_is_the_pip_line(no_rich: None) -> None:
    """Drawing without rich raises an error that says what to install."""
    scheduler = Scheduler.with_sequential()
    for thing in (scheduler, scheduler.task(train)):
        with pytest.raises(MissingExtraError, match=r"pip install 'amltk\[rich\]'"):
            thing.__rich__()


def test_display_without_rich_is_refused_before_the_run(no_rich: None) -> None:
    """A run to be displayed does not start without rich."""
    scheduler = Scheduler.with_sequential()
    with pytest.raises(MissingExtraError, match=r"pip install 'amltk\[rich\]'"):
        scheduler.run(display=True)
    assert not scheduler.event_counts


def test_importing_the_scheduler_does_not_import_rich(no_rich: None) -> None:
    """Everything but drawing works without rich."""
    scheduler = Scheduler.with_sequential()
    scheduler.run(display=False)
    assert scheduler.event_counts[scheduler.FINISHED] == 1
    assert sys.modules["rich"] is None
