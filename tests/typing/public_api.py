"""What type checkers must infer for users' programs. Checked by mypy and pyright, never run."""

from __future__ import annotations

import asyncio
from typing import Any, assert_type

from amltk.scheduling import Comm, Emitter, Event, ExitState, Future, Limiter, Scheduler, Subscriber, Subscription


def train(depth: int, *, rate: float = 0.1) -> str:
    return f"{depth} {rate}"


scheduler = Scheduler.with_processes(2)
task = scheduler.task(train, plugins=Limiter(max_calls=3))

assert_type(task.submit(1), Future[str] | None)
assert_type(task.submit(1, rate=0.5), Future[str] | None)
assert_type(task(1), str)
task.submit("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
task.submit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
assert_type(scheduler.submit(train, 1), Future[str])
assert_type(scheduler.submit(train, 1).args, tuple[Any, ...])
scheduler.submit(train, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@task.on_result
def good(future: asyncio.Future[str], result: str) -> int:
    return len(result)


assert_type(good(scheduler.submit(train, 1), ""), int)  # a decorated function stays the function


@task.on_result  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
def bad(future: asyncio.Future[str], result: int) -> None: ...


@scheduler.on_start(repeat=3)
@scheduler.on_empty
async def refill() -> None: ...


@scheduler.on_stop
def why(message: str, exception: BaseException | None) -> None: ...


task.on_result(scheduler.stop)
assert_type(scheduler.run(timeout=1.0, on_exception={ValueError: "continue"}), ExitState)
assert_type(task.on_done.register(lambda _: None), Subscription)

one: Event[[int]] = Event("one")
two: Event[[int], str] = Event("two")
emitter = Emitter("mine")
assert_type(emitter.subscriber(one), Subscriber[[int], Any])
emitter.emit(one, 1)
emitter.emit(one, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def talk(x: int, *, comm: Comm) -> None:
    with comm.open() as opened:
        assert_type(opened, Comm)
        opened.send(x)


talking = scheduler.task(talk, plugins=[Comm.Plugin(interface=None)])


@talking.on(Comm.REQUEST)
def answer(msg: Comm.Msg[int]) -> None:
    assert_type(msg.data, int)
    assert_type(msg.respond(msg.data), bool)
    assert_type(msg.comm.send("more"), bool)


def end_it(error: Comm.CloseRequestError) -> None: ...


def check_results() -> None:
    for call in task.map([1, 2]).results(ordered=True, on_exception="continue"):
        assert_type(call, Future[str])
        assert_type(call.result(), str)


async def check_results_in_a_loop() -> None:
    async for call in task.map([{"depth": 1}], unpack="kwargs").results():
        assert_type(call.result(), str)
    assert_type(await task.map([1]).results(), list[Future[str]])


with Scheduler.with_processes(2) as warm:
    assert_type(warm, Scheduler)
