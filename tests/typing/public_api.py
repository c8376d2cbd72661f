"""What type checkers must infer for users' programs. Checked by mypy and pyright, never run."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, assert_type

from amltk.scheduling import (
    Comm,
    Emitter,
    Event,
    ExitState,
    Future,
    Limiter,
    Limits,
    Plugin,
    Retry,
    Scheduler,
    Subscriber,
    Subscription,
    Task,
)
from amltk.types import Duration


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


# ------------------------------------------------------------------ decorators that are stacked


@scheduler.on_start(repeat=2)
@task.on_result(when=scheduler.running)
@task.on_exception
@task.on_cancelled(every=2)
def launch(*_: object) -> int:
    task.submit(1)
    return 1


assert_type(launch(), int)  # exactly what it was
assert_type(launch("anything", 2), int)


@task.on_result
@task.on_exception(max_calls=3)
@task.on_done
@scheduler.on_future_cancelled
def note(future: Future[str], *more: object, limit: int = 3) -> int:
    return len(more) + limit


assert_type(note(scheduler.submit(train, 1), limit=2), int)


@scheduler.on_start  # pyright: ignore[reportArgumentType, reportCallIssue] - mypy does not see it
def needs_one(future: Future[str], *_: object) -> None: ...


@task.on_result
async def wait(future: Future[str], result: str) -> None:
    assert_type(await future, str)


task.on_result(lambda future, result: len(future.label + result.upper()))  # a lambda's parameters are inferred
task.on_result(lambda future, result: len(result + 1))  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
task.on_exception(every=2)(lambda future, error: (error.__cause__, future.number))

# ------------------------------------------------------------------ events as objects are checked, as names are not


@task.on(Retry.RETRY)
def again(future: Future[Any], error: BaseException, attempt: int) -> None: ...


@task.on(Retry.RETRY)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
def wrong(future: Future[Any], attempt: int) -> None: ...


@task.on("retry", every=2)
def named(future: Future[Any], *, n: int = 3) -> int:
    return n


assert_type(named(scheduler.submit(train, 1), n=2), int)

# ------------------------------------------------------------------ what submit takes and returns


class Own(Plugin): ...


hour = Limits(wall_time="1 h")
assert_type(scheduler.task(train).submit(1), Future[str])
assert_type(scheduler.task(train).submit(1).args, tuple[Any, ...])
assert_type(scheduler.task(train, plugins=hour).submit(1), Future[str])
assert_type(scheduler.task(train, plugins=[hour, Retry()]).submit(1), Future[str])
assert_type(scheduler.task(train, plugins=(hour, Limiter(max_calls=1))).submit(1), Future[str] | None)
assert_type(scheduler.task(train, plugins=Own()).submit(1), Future[str] | None)
assert_type(scheduler.task(train, plugins=[Own(), Retry()]).submit(1), Future[str] | None)
scheduler.task(train, plugins=[hour]).submit("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
scheduler.task(train, plugins=[Limiter()]).submit("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

assert_type(scheduler.task(talk, plugins=Comm.Plugin()).submit(1), Future[None])
assert_type(scheduler.task(talk, plugins=[Comm.Plugin(), Retry()]).submit(1), Future[None])
assert_type(scheduler.task(talk, plugins=[Limiter(), Comm.Plugin()]).submit(1), Future[None] | None)


def with_a_task(one: Task[[int], str], any_one: Task[..., Any]) -> None:
    assert_type(one.submit(1), Future[str] | None)  # whatever its plugins


def square(n: int) -> str:
    return str(n * n)


def check_messages(msg: Comm.Msg) -> None:
    assert_type(msg.data, Any)


# ------------------------------------------------------------------ clusters, durations, policies


class Mine(Scheduler): ...


assert_type(Scheduler.with_slurm(n_workers=2, queue="debug"), Scheduler)
assert_type(Scheduler.with_slurm_jobs(max_jobs=2, partition="debug", poll_interval="10 s"), Scheduler)
assert_type(Mine.with_pbs(n_workers=2), Mine)
Scheduler.with_slurm("debug")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]

durations: list[Duration] = [1, 1.5, "1.5 h", timedelta(hours=1)]
for duration in durations:
    scheduler.run(timeout=duration)
    Limits(wall_time=duration, cpu_time=duration)
    Retry(wait=duration)
scheduler.run(timeout=[1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

errors: dict[type[OSError], Any] = {FileNotFoundError: "continue"}
scheduler.run(on_exception=errors)


@scheduler.on("future-result", every=2)
@scheduler.on(Scheduler.FUTURE_RESULT)
def on_any_result(future: Future[Any], result: Any) -> None: ...
