"""On every executor, a shared object is put once, and calls get it in place of its handle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk.scheduling import Comm
from tests.contract import talk, work
from tests.helpers.arrays import MB, filled

if TYPE_CHECKING:
    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities


def test_calls_are_given_the_object(scheduler: Scheduler, capabilities: Capabilities) -> None:
    """Handles are replaced anywhere in the arguments; each process has one object, which cannot be changed there."""
    array = filled(1)
    shared = scheduler.share(array)
    futures: list[Any] = []

    @scheduler.on_start
    def launch() -> None:
        futures.extend(scheduler.submit(work.look_at, shared) for _ in range(4))
        futures.append(scheduler.submit(work.look_at, [{"x": (shared,)}], nested=shared))
        futures.append(scheduler.submit(work.look_at, scheduler.submit(abs, -1), nested={"x": [shared]}))

    scheduler.run(display=False)
    seen = [one for future in futures for one in future.result()]
    assert len(seen) == 7
    assert {(size, total) for _, _, size, total, _ in seen} == {(2 * MB, 2 * MB)}
    assert {is_readonly for *_, is_readonly in seen} == {not capabilities.shares_objects}
    assert len({(pid, number) for pid, number, *_ in seen}) == len({pid for pid, *_ in seen})
    assert shared.get() == array
    assert (shared.get() is array) == capabilities.shares_objects
    shared.close()


def test_messages_give_the_object(scheduler: Scheduler) -> None:
    """A handle in a message or a response arrives as the object."""
    shared = scheduler.share(filled(1))
    task = scheduler.task(talk.look_at_data, plugins=Comm.Plugin())
    seen: list[Any] = []
    task.on_result(lambda _, result: seen.append(result))

    @task.on("comm-request")
    def answer(msg: Comm.Msg) -> None:
        msg.comm.send(shared)
        msg.respond({"x": [shared]})

    scheduler.on_start(lambda: task.submit())
    scheduler.run(display=False)
    assert seen == [(2 * MB, 2 * MB, True)]
    shared.close()
