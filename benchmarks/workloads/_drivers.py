"""How scripts are driven through tools: in callbacks, on the main thread, or by a scheduler's events."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from _scripts import Script

if TYPE_CHECKING:
    from amltk.scheduling import Scheduler

Told = Callable[[Any], object]
"""Receives the end of a call: its future or, with mpire, its result or exception."""

Send = Callable[[Iterable[Any], Told], object]
"""Submits a call for each argument and has the end of each call reported."""

Drive = Callable[[Script], None]
"""Runs a script to its end."""


def one_by_one(submit: Callable[[Any], Future[Any] | asyncio.Future[Any]]) -> Send:
    """Make a `Send` from a function that submits one call and returns its future."""

    def send(arguments: Iterable[Any], told: Told) -> None:
        for argument in arguments:
            submit(argument).add_done_callback(told)

    return send


def ways(send: Send) -> Sequence[Drive]:
    """Both ways to drive a pool; which one is faster depends on the pool and the load."""
    return lambda script: in_callbacks(send, script), lambda script: on_main_thread(send, script)


def in_callbacks(send: Send, script: Script) -> None:
    """React to the end of a call on the thread that the tool calls back on."""
    over = Event()
    errors: list[BaseException] = []
    turn = Lock()  # a call that ends while being submitted calls back on this thread

    def on_end(told: Any) -> None:
        try:
            with turn:
                unsent = script.send(_outcome(told))
            send(unsent, on_end)
        except StopIteration:
            over.set()
        except BaseException as error:  # most tools would only log it
            errors.append(error)
            over.set()

    send(next(script), on_end)
    over.wait()
    if errors:
        raise errors[0]


def on_main_thread(send: Send, script: Script) -> None:
    """Callbacks hand over to the main thread, as they do in a scheduler."""
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
    unsent = next(script)
    while True:
        send(unsent, ended.put)
        try:
            unsent = script.send(_outcome(ended.get()))
        except StopIteration:
            return


def by_asyncio(pool: Executor, fn: Callable[[Any], Any]) -> Drive:
    """By the callbacks of `loop.run_in_executor`, asyncio's own interface for this."""

    async def play(script: Script) -> None:
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        send = one_by_one(lambda argument: loop.run_in_executor(pool, fn, argument))

        def on_end(ended: asyncio.Future[Any]) -> None:
            try:
                unsent = script.send(ended.result())
            except StopIteration:
                over.set_result(None)
            except BaseException as error:  # a loop would only log it
                over.set_exception(error)
            else:
                send(unsent, on_end)

        send(next(script), on_end)
        await over

    return lambda script: asyncio.run(play(script))


def by_events(make: Callable[[], Scheduler], fn: Callable[[Any], Any]) -> Drive:
    """By a task and one callback for its results. Each script gets its own scheduler."""

    def drive(script: Script) -> None:
        scheduler = make()
        task = scheduler.task(fn)

        def send(arguments: Iterable[Any]) -> None:
            for argument in arguments:
                task.submit(argument)

        @scheduler.on_start
        def launch() -> None:
            send(next(script))

        @task.on_result
        def on_result(_future: Any, result: Any) -> None:
            try:
                unsent = script.send(result)
            except StopIteration:
                return  # nothing is pending, so the run ends
            send(unsent)

        scheduler.run(display=False)

    return drive


def _outcome(told: Any) -> Any:
    if isinstance(told, BaseException):
        raise told
    return told.result() if hasattr(told, "result") else told
