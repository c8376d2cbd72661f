"""What a future knows about its call, and where that is shown."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from amltk.display.progress import Observer
from amltk.scheduling import Limiter, Plugin, Scheduler
from tests.unit.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable


def train(*args: Any, **kwargs: Any) -> None:
    pass


class ChangeAll(Plugin):
    """Replaces all arguments of a call."""

    name = "change"

    def pre_submit(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        return fn, ("changed",), {"changed": True}


@pytest.mark.parametrize("plugins", [(), (Limiter(max_concurrent=5), ChangeAll())], ids=["plain", "plugins"])
def test_a_future_knows_its_call(plugins: Any) -> None:
    """A future's arguments are those submitted, in each event and afterwards, whatever plugins make of them."""
    program = Program(plugins=plugins)
    seen: list[Any] = []
    program.task.on_result(lambda future, _: seen.append((future.args, future.kwargs, future.label)))
    program.scheduler.on_future_submitted(lambda future: seen.append(future.args))
    program.scheduler.on_start(lambda: program.task.submit(1, lr=0.1))
    program.at(1, program.executor.finish, 0)
    program.run()
    assert seen == [(1,), ((1,), {"lr": 0.1}, "work(1, lr=0.1)")]


def test_numbers_go_on_over_all_runs() -> None:
    """Accepted submissions are numbered from 0, with or without a task; rejected ones take no number."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(train)
    futures: list[Any] = []
    scheduler.on_future_submitted(futures.append)
    scheduler.on_start(lambda: [task.submit(), scheduler.submit(train)])
    scheduler.run()
    scheduler.run()
    assert [future.number for future in futures] == [0, 1, 2, 3]


def test_no_keyword_arguments() -> None:
    """Without keyword arguments `kwargs` is an empty dictionary."""
    program = Program()
    program.submit()
    program.at(1, program.executor.finish, 0)
    program.scheduler.on_future_done(lambda future: future.kwargs.update(x=1))  # does not affect others
    seen: list[Any] = []
    program.task.on_done(lambda future: seen.append((future.args, future.kwargs)))
    program.run()
    assert seen == [((), {})]


@pytest.mark.parametrize(
    ("ends", "shown"),
    [
        (lambda executor: executor.finish(0, [1] * 99), "result=[1, 1, 1, 1, …]"),
        (lambda executor: executor.fail(0, ValueError("x")), "raised ValueError"),
        (lambda executor: executor.submissions[0].future.cancel(), "cancelled"),
    ],
    ids=["result", "exception", "cancelled"],
)
def test_repr(ends: Callable[[Any], Any], shown: str) -> None:
    """A future's repr has its number, its call and its state."""
    program = Program()
    seen: list[str] = []

    def submit() -> None:
        future = program.task.submit(lr=0.1)
        seen.append(repr(future))
        program.scheduler.on_finished(lambda: seen.append(repr(future)))

    program.scheduler.on_start(submit)
    program.at(1, ends, program.executor)
    program.run(on_exception="continue", on_cancelled="continue")
    assert seen == ["<Future 0: work(lr=0.1), pending>", f"<Future 0: work(lr=0.1), {shown}>"]


def test_errors_tell_the_call() -> None:
    """An exception of a call has a note that names the call, and so does the message of @stop."""
    program = Program()
    program.scheduler.on_start(lambda: program.task.submit("mnist", lr=0.1))
    program.at(1, program.executor.fail, 0, ValueError("diverged"))
    messages: list[str] = []
    program.scheduler.on_stop(lambda message, _: messages.append(message))
    with pytest.raises(ValueError, match="diverged") as info:
        program.run()
    assert info.value.__notes__ == ["raised by the call work('mnist', lr=0.1)"]
    assert messages == ["work('mnist', lr=0.1) raised ValueError('diverged')"]


def test_a_result_that_is_asked_for_too_early() -> None:
    """Asking for a result too early raises an error that names the call."""
    program = Program()
    program.scheduler.on_start(lambda: program.task.submit(7).result())
    with pytest.raises(Exception, match=r"the call work\(7\) has not ended"):
        program.run(wait=False)


def test_the_display_tells_the_calls() -> None:
    """Running calls and failures are shown with their arguments, whose repr is computed once."""
    asked: list[str] = []

    class Config:
        def __repr__(self) -> str:
            asked.append("repr")
            return "Config(lr=0.1)"

    program = Program()
    observer = Observer(program.scheduler, None, lambda: 0.0)
    seen: list[Any] = []

    def look() -> None:
        progress = observer.observe()
        seen.append(([call.name for call in progress.calls], [failure.name for failure in progress.failures]))

    program.scheduler.on_start(observer.open)
    program.scheduler.on_start(lambda: program.task.submit(Config()))
    program.at(1, program.executor.start, 0)
    for time in (2, 3, 5, 6):
        program.at(time, look)
    program.at(4, program.task.submit)
    program.at(4, program.executor.fail, 0, ValueError())
    program.at(7, program.executor.finish, 1)
    program.run(on_exception="continue")
    observer.close()
    call = "work(Config(lr=0.1))"
    assert seen == [([call], []), ([call], []), ([], [call]), ([], [call])]
    assert len(asked) <= 2  # the second time for the policy's note, if there is one


def test_arguments_are_let_go_with_the_future() -> None:
    """After the call's end only the user's future keeps its arguments, without help from the garbage collector."""

    class Argument:
        pass

    scheduler = Scheduler.with_threads(1)
    task = scheduler.task(train)
    kept: list[Any] = []
    references: list[Any] = []
    alive: list[bool] = []

    @scheduler.on_start
    def submit() -> None:
        for submitting in (task.submit, scheduler.submit):
            argument = Argument()
            references.append(weakref.ref(argument))
            args = (argument,) if submitting == task.submit else (train, argument)
            kept.append(submitting(*args, key=argument))

    gc.collect()
    gc.disable()
    try:
        scheduler.run()
        alive.extend(reference() is not None for reference in references)
        kept.clear()
        alive.extend(reference() is not None for reference in references)
    finally:
        gc.enable()
    assert alive == [True, True, False, False]
