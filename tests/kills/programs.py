"""Small programs with a journal, each a script: `python programs.py NAME FOLDER COMPUTED`.

Each records in the file COMPUTED what it computes, one line per call: the task and the number that is its first
argument and is unique among the task's calls. At the end it prints what its callbacks know.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from amltk.scheduling import Comm, Event, Limiter, Retry, Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 0.01
"""How long most calls take."""

NEWS: Event[[int], Any] = Event("news")


def note(computed: str, task: str, number: int) -> None:
    """Record that a call is computed."""
    with open(computed, "ab", buffering=0) as file:
        file.write(f"{task} {number}\n".encode())


class Flaky(Exception):
    """What some calls raise."""


class Program:
    """What the programs share: a scheduler with two processes, and what its callbacks know.

    Args:
        folder: The folder of the journal.
        computed: The file that records what is computed.
    """

    def __init__(self, folder: str, computed: str) -> None:
        self.folder = folder
        self.computed = computed
        self.scheduler = Scheduler.with_processes(2)
        self.random = random.Random(11)
        self.told: list[Any] = []

    def run(self, **options: Any) -> None:
        state = self.scheduler.run(
            journal=self.folder, display=False, on_exception="continue", on_cancelled="continue", **options
        )
        self.told.append(state.code.name)

    def note_ends(self, task: Any) -> None:
        name = task.name
        task.on_result(lambda future, result: self.told.append((name, future.number, result)))
        task.on_exception(lambda future, error: self.told.append((name, future.number, str(error))))
        task.on_cancelled(lambda future: self.told.append((name, future.number, "cancelled")))


def square(number: int, computed: str, x: float, seconds: float = SECONDS) -> float:
    note(computed, "square", number)
    time.sleep(seconds)
    return x * x


def uneven(number: int, computed: str, x: float) -> float:
    note(computed, "uneven", number)
    time.sleep(SECONDS * (number % 4))
    return x * x


def negative(number: int, computed: str) -> int:
    note(computed, "negative", number)
    time.sleep(SECONDS)
    return -number


def fails(number: int, computed: str) -> int:
    note(computed, "fails", number)
    time.sleep(SECONDS)
    if number % 3 == 1:
        raise Flaky(number)
    return number


def rungs(number: int, computed: str, slope: float, *, comm: Any) -> float:
    note(computed, "rungs", number)
    score = 0.0
    with comm.open():
        for rung in range(1, 5):
            time.sleep(SECONDS / 2)
            score = slope * rung
            comm.send((rung, score))
            if not comm.request(rung):
                break
    return score


def optuna_search(program: Program) -> None:
    """A seeded TPE of Optuna, which gets results in the order of the outcomes."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=5, n_startup_trials=5))
    task = program.scheduler.task(uneven)
    trials: dict[int, Any] = {}

    def ask() -> None:
        trial = study.ask({"x": optuna.distributions.FloatDistribution(-2, 2)})
        trials[task.submit(trial.number, program.computed, trial.params["x"]).number] = trial

    program.scheduler.on_start(ask, repeat=4)

    @task.on_result
    def tell(future: Any, value: float) -> None:
        study.tell(trials[future.number], value)
        program.told.append((future.number, value))
        if len(trials) < 40:
            ask()

    program.run()
    program.told.append([(trial.number, trial.value, trial.params) for trial in study.trials])


def halving(program: Program) -> None:
    """Successive halving by messages."""
    task = program.scheduler.task(rungs, plugins=Comm.Plugin())
    scores: dict[int, list[float]] = {}
    latest: dict[int, float] = {}

    @program.scheduler.on_start
    def begin() -> None:
        for number in range(21):
            task.submit(number, program.computed, program.random.random())

    @task.on("comm-message")
    def on_message(msg: Any) -> None:
        latest[msg.future.number] = msg.data[1]

    @task.on("comm-request")
    def on_request(msg: Any) -> None:
        score = latest[msg.future.number]
        rung = scores.setdefault(msg.data, [])
        rung.append(score)
        goes_on = score >= sorted(rung)[len(rung) // 2]
        program.told.append((msg.future.number, msg.data, score, goes_on))
        msg.respond(goes_on)

    task.on("comm-close")(lambda msg: program.told.append(("close", msg.future.number)))
    program.note_ends(task)
    program.run()
    program.told.append(scores)


def stages(program: Program) -> None:
    """Calls whose results start other calls, some of which are cancelled."""
    first, second = program.scheduler.task(square), program.scheduler.task(negative)
    program.note_ends(first)
    program.note_ends(second)
    begun: list[Any] = []

    @program.scheduler.on_start
    def begin() -> None:
        for number in range(25):
            first.submit(number, program.computed, program.random.random())

    @first.on_result
    def next_stage(future: Any, _: float) -> None:
        begun.append(second.submit(future.number, program.computed))
        if len(begun) % 5 == 0 and not begun[-2].done():
            begun[-2].cancel()

    program.run()


def retry(program: Program) -> None:
    """Calls that fail are retried after a while."""
    task = program.scheduler.task(fails, plugins=Retry(Flaky, attempts=3, wait=0.02, jitter=0))
    program.note_ends(task)

    @program.scheduler.on_start
    def begin() -> None:
        for number in range(25):
            task.submit(number, program.computed)

    program.run()


def limiter(program: Program) -> None:
    """Calls that wait until a plugin lets them pass."""
    other = program.scheduler.task(negative)
    task = program.scheduler.task(
        square, plugins=[Limiter(max_concurrent=1, not_while_running=other, on_limit="queue")]
    )
    program.note_ends(task)
    program.note_ends(other)

    @program.scheduler.on_start
    def begin() -> None:
        for number in range(20):
            task.submit(number, program.computed, number / 3)

    @task.on_result
    def interrupt(future: Any, _: float) -> None:
        if len(program.told) % 4 == 0 and program.scheduler.running():
            other.submit(future.args[0], program.computed)

    program.run()


def mapped(program: Program) -> None:
    """A map over proposals that depend on earlier results."""
    task = program.scheduler.task(uneven)
    program.note_ends(task)

    def proposals() -> Iterator[tuple[int, str, float]]:
        for number in range(40):
            yield number, program.computed, program.scheduler.random.random() + len(program.told)

    task.map(proposals(), in_flight=4, unpack="args")
    program.run()


def coroutines(program: Program) -> None:
    """Callbacks that wait for calls, alone and together, and for capacity."""
    task = program.scheduler.task(square)

    @program.scheduler.on_start
    async def chains() -> None:
        numbers = iter(range(1000))

        async def chain(n: int) -> float:
            x = 1.0 + n
            for _ in range(6):
                x = await task.submit(next(numbers), program.computed, x % 7)
                program.told.append((n, x))
            return x

        program.told.append([await chain(n) for n in range(2)])
        together = [task.submit(next(numbers), program.computed, n, SECONDS * (n % 3)) for n in range(9)]
        program.told.append(await asyncio.gather(*together))
        while await program.scheduler.wait_for_capacity(4):
            number = next(numbers)
            task.submit(number, program.computed, number)
            if number > 40:
                return

    program.run()


def timers(program: Program) -> None:
    """Calls that begin after a while, and a run that ends by its timeout or by a timer."""
    task = program.scheduler.task(negative)
    program.note_ends(task)

    def tick(n: int) -> None:
        program.told.append(f"tick {n}")
        if program.scheduler.running():
            task.submit(n, program.computed)
            program.scheduler.call_later(0.01 * (n % 4), tick, n + 1)
            if n == 40:
                program.scheduler.stop("enough")

    program.scheduler.on_start(lambda: program.scheduler.call_later(0.01, tick, 0))
    program.run(end_on_empty=False, timeout=600)


def errors(program: Program) -> None:
    """Calls and callbacks that raise."""
    task = program.scheduler.task(fails)
    program.note_ends(task)

    @task.on_exception
    def again(future: Any, _: BaseException) -> None:
        if future.args[0] < 200:
            task.submit(future.args[0] + 100, program.computed)
        raise RuntimeError(f"a callback for {future.number}")

    task.map(((number, program.computed) for number in range(25)), in_flight=3, unpack="args")
    import logging

    logging.getLogger("amltk").setLevel(logging.CRITICAL)
    program.run(on_callback_exception="continue")


def results(program: Program) -> None:
    """A plain loop over results that submits more calls and draws from a generator."""
    task, other = program.scheduler.task(uneven), program.scheduler.task(negative)
    program.note_ends(other)
    best = 10.0

    def proposals() -> Iterator[tuple[int, str, float]]:
        for number in range(40):
            yield number, program.computed, best * program.random.random()

    loop = task.map(proposals(), in_flight=4, unpack="args").results(journal=program.folder, display=False)
    for call in loop:
        best = min(best, call.result())
        program.told.append((call.number, call.result()))
        if len(program.told) % 7 == 0:
            other.submit(call.args[0], program.computed)


def threads(program: Program) -> None:
    """Other threads submit calls, and emit events whose callbacks submit more."""
    task, other = program.scheduler.task(square), program.scheduler.task(negative)
    program.note_ends(task)
    program.note_ends(other)

    @task.on(NEWS)
    def on_news(number: int) -> None:
        program.told.append(f"news {number}")
        other.submit(number, program.computed)

    def ask() -> None:
        try:
            for number in range(20):
                task.submit(number, program.computed, number)
                if number % 2:
                    task.emit(NEWS, number)
                time.sleep(SECONDS / 2)
        except RuntimeError:
            pass  # everything recorded was delivered, and the run is over

    def end() -> None:
        if task.channel("result").count == 20 and other.channel("result").count == 10:
            program.scheduler.stop("all told")

    task.on_result(lambda *_: end())
    other.on_result(lambda *_: end())
    thread = threading.Thread(target=ask)
    program.scheduler.on_start(thread.start)
    program.run(end_on_empty=False)
    thread.join()


PROGRAMS: dict[str, Callable[[Program], None]] = {
    "optuna": optuna_search,
    "halving": halving,
    "stages": stages,
    "retry": retry,
    "limiter": limiter,
    "map": mapped,
    "async": coroutines,
    "timers": timers,
    "errors": errors,
    "results": results,
    "threads": threads,
}
"""The programs by name."""


def main(name: str, folder: str, computed: str) -> None:
    """Run a program until it completes."""
    program = Program(folder, computed)
    PROGRAMS[name](program)
    sys.stdout.write(f"{program.told!r}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
