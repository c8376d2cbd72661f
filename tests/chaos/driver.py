"""The program that is attacked: `python driver.py PLACE MARK CALLS SEED METHOD [--terminal ...]`.

It records all that it is told about its calls in the file `events` of the folder PLACE: S submitted, R result, X
exception, C cancelled, O and Q the begin and the end of a conversation, P a problem, D done; and W where the calls are
made that follow. The log of the package is in the file `log`.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import random
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import CancelledError
from typing import Any

import psutil

import amltk.journal
from amltk.exceptions import SchedulerNotRunningError
from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool
from tests.chaos.work import KINDS, ORDERED_KINDS, SLOTS, WORKERS, Kind, Place, SharesNothing, expected, payload_of
from tests.helpers.gate import GUARD

IN_FLIGHT = 16
THREADS = 10
"""Threads that cancel calls, and submit some."""

ROUND = 250
"""Calls of one run, or of one bare pool."""

SEASONS = {"plain": 0.45, "ordered": 0.25, "bare": 0.3}
"""Shares of the calls: of a scheduler, of one with resources and priorities, and of a pool without a scheduler."""


class Ledger:
    """Records what the program is told, and chooses the next call.

    Args:
        place: Where it writes.
        seed: The seed of all choices.
    """

    def __init__(self, place: Place, seed: int) -> None:
        self.place = place
        self.choose = random.Random(seed)
        self._kinds: dict[int, str] = {}
        self._next = 0
        self._lock = threading.Lock()

    def next(self, kinds: dict[str, Kind]) -> tuple[int, str]:
        """Choose the number and the kind of a call."""
        with self._lock:
            self._next += 1
            kind = self.choose.choices([*kinds], [kind.weight for kind in kinds.values()])[0]
            self._kinds[self._next] = kind
            return self._next, kind

    @property
    def begun(self) -> int:
        """How many calls were chosen."""
        return self._next

    def note(self, *words: object) -> None:
        self.place.note("events", *words)

    def submitted(self, number: int) -> None:
        self.note("S", number, self._kinds[number])

    def result(self, number: int, result: Any) -> None:
        self.note("R", number, "right" if expected(self._kinds[number], number, result) else f"wrong:{result!r:.40}")

    def exception(self, number: int, error: BaseException) -> None:
        self.note("X", number, type(error).__name__, str(error).replace("\n", " "))

    def cancelled(self, number: int) -> None:
        self.note("C", number)

    def where(self, *words: object) -> None:
        self.note("W", *words)

    def problem(self, text: str) -> None:
        self.note("P", " | ".join(text.splitlines()))


def arguments(number: int, kind: str, place: Place) -> tuple[Any, ...]:
    """What a call is given."""
    if kind == "huge":
        return number, place, payload_of(number)
    if kind == "odd-argument":
        return number, place, SharesNothing()
    return number, place


class ScheduledRounds:
    """Runs of one scheduler, one after the other.

    Args:
        ledger: Where it records.
        method: How workers are started.
        ordered: Whether there are resources and priorities.
    """

    def __init__(self, ledger: Ledger, method: str, *, ordered: bool) -> None:
        self.ledger = ledger
        self.kinds = ORDERED_KINDS if ordered else KINDS
        self.scheduler = Scheduler.with_processes(
            WORKERS, mp_context=method, resources={"slot": SLOTS} if ordered else None
        )
        self.tasks = {
            name: self.scheduler.task(kind.function, plugins=kind.plugins(), priority=kind.priority)
            for name, kind in self.kinds.items()
        }
        self.chained = self.scheduler.task(abs)
        self.left = 0
        self.stop_at = sys.maxsize
        self.has_journal = False
        self.told: dict[Any, str] = {}
        self.asked: set[Any] = set()  # to be cancelled, unless the outcome comes first
        self._subscribe()

    def launch(self) -> None:
        """Submit a call, if the round has one left."""
        if self.left <= 0 or not self.scheduler.running():
            return
        self.left -= 1
        kinds = self.kinds
        if self.has_journal:  # which needs arguments that can be pickled, and from threads calls without plugins
            inside = threading.current_thread() is threading.main_thread()
            kinds = {name: kind for name, kind in kinds.items() if kind.in_journal and (inside or kind.on_bare_pool)}
        number, kind = self.ledger.next(kinds)
        given = arguments(number, kind, self.ledger.place)
        try:
            if kind == "follows":
                given = *given, self.chained.submit(-number)
            self.tasks[kind].submit(*given)
        except SchedulerNotRunningError:
            pass  # it was stopped meanwhile

    def run(self, calls: int, end: str, journal: str | None) -> None:
        """Make a run that ends in some way, while threads cancel and submit."""
        self.left, self.told, self.asked, self.has_journal = calls, {}, set(), journal is not None
        over = threading.Event()
        seeds = [self.ledger.choose.random() for _ in range(THREADS)]
        threads = [threading.Thread(target=self._interfere, args=(seed, over)) for seed in seeds]
        threads.append(threading.Thread(target=fork_now_and_then, args=(self.ledger, over)))
        for thread in threads:
            thread.start()
        self.stop_at = sys.maxsize if end != "stop" else self.ledger.begun + self.ledger.choose.randrange(calls)
        wait = end == "exhausted" or self.ledger.choose.random() < 0.5
        try:
            self.scheduler.run(
                display=False,
                on_exception="continue",
                on_cancelled="continue",
                wait=wait,
                timeout=2.0 if end == "timeout" else None,
                journal=journal,
            )
        except Exception:
            self.ledger.problem(f"run raised: {traceback.format_exc()}")
        finally:
            over.set()
            for thread in threads:
                thread.join()
        if journal:
            self._check_journal(journal, wait=wait)

    def _subscribe(self) -> None:
        scheduler, ledger = self.scheduler, self.ledger

        def is_counted(future: Any) -> bool:
            return future.task is not self.chained  # the calls that others follow are not

        def submitted(future: Any) -> None:
            if is_counted(future):
                ledger.submitted(future.args[0])

        def result(future: Any, value: Any) -> None:
            self.told[future] = "result"
            if is_counted(future):
                ledger.result(future.args[0], value)
                self.go_on()

        def exception(future: Any, error: BaseException) -> None:
            self.told[future] = "exception"
            if is_counted(future):
                ledger.exception(future.args[0], error)
                self.go_on()

        def cancelled(future: Any) -> None:
            self.told[future] = "cancelled"
            if is_counted(future):
                ledger.cancelled(future.args[0])
                self.go_on()

        scheduler.on_start(self.launch, repeat=IN_FLIGHT)
        scheduler.on_future_submitted(submitted)
        scheduler.on_future_result(result)
        scheduler.on_future_exception(exception)
        scheduler.on_future_cancelled(cancelled)
        talks = self.tasks["talks"]
        talks.on("comm-open")(lambda msg: ledger.note("O", msg.future.args[0]))
        talks.on("comm-close")(lambda msg: ledger.note("Q", msg.future.args[0]))
        talks.on("comm-request")(lambda msg: msg.respond(-msg.data))

    def go_on(self) -> None:
        """Replace a call that has ended."""
        if self.ledger.begun >= self.stop_at:
            self.scheduler.stop()
        self.launch()

    def _interfere(self, seed: float, over: threading.Event) -> None:
        choose = random.Random(seed)
        while not over.wait(choose.expovariate(2)):
            pending = list(self.scheduler.queue)
            if pending and choose.random() < 0.6:
                future = choose.choice(pending)
                self.asked.add(future)
                future.cancel()
            else:
                self.launch()

    def _check_journal(self, folder: str, *, wait: bool) -> None:
        calls = {call.number: call for call in amltk.journal.open(folder).calls()}
        if calls.keys() != {future.number for future in self.told}:
            self.ledger.problem(f"{len(calls)} calls are recorded, {len(self.told)} were told")
        for future, told in self.told.items():
            call = calls.get(future.number)
            recorded = "nothing" if call is None else "exception" if call.state == "lost" else call.state
            is_cut_off = told == "cancelled" and not wait  # not recorded as cancelled
            if recorded != told and not is_cut_off and future not in self.asked:
                self.ledger.problem(f"{call} ended for callbacks as {told}")


class BarePool:
    """A pool without a scheduler, used by ten threads."""

    def __init__(self, ledger: Ledger, method: str) -> None:
        self.ledger = ledger
        self.kinds = {name: kind for name, kind in KINDS.items() if kind.on_bare_pool}
        self.pool = ProcessPool(WORKERS, method)
        self._ended = threading.Semaphore(0)

    def run(self, calls: int, end: str) -> None:
        """Compute calls, and end the pool in some way."""
        seeds = [self.ledger.choose.random() for _ in range(THREADS)]
        shares = [calls // THREADS + (n < calls % THREADS) for n in range(THREADS)]
        threads = [threading.Thread(target=self._use, args=pair) for pair in zip(seeds, shares, strict=True)]
        over = threading.Event()
        forker = threading.Thread(target=fork_now_and_then, args=(self.ledger, over))
        for thread in [*threads, forker]:
            thread.start()
        for thread in threads:
            thread.join()
        if end == "kill":
            self.pool.kill_workers()
        elif end == "forget":
            del self.pool
        else:
            self.pool.shutdown(cancel_futures=end == "cancel")
        for _ in range(calls):
            self._ended.acquire()
        over.set()
        forker.join()

    def _use(self, seed: float, calls: int) -> None:
        choose = random.Random(seed)
        futures: list[Any] = []
        for _ in range(calls):
            number, kind = self.ledger.next(self.kinds)
            self.ledger.submitted(number)
            call = self.kinds[kind].function
            future = self.pool.submit(call, *arguments(number, kind, self.ledger.place))
            future.add_done_callback(lambda future, number=number: self._end(number, future))
            futures.append(future)
            if choose.random() < 0.15:
                choose.choice(futures[-5:]).cancel()
            time.sleep(choose.expovariate(50))

    def _end(self, number: int, future: Any) -> None:
        try:
            self.ledger.result(number, future.result())
        except CancelledError:
            self.ledger.cancelled(number)
        except Exception as error:
            self.ledger.exception(number, error)
        self._ended.release()


def fork_now_and_then(ledger: Ledger, over: threading.Event) -> None:
    """Fork this process, at moments that suit nobody."""
    while not over.wait(random.expovariate(5)):
        pid = os.fork()
        if not pid:
            os._exit(0)
        give_up = time.monotonic() + GUARD
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > give_up:
                ledger.problem(f"a forked process, {pid}, hangs")
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)


def left_children() -> list[str]:
    """Processes below this one that are left a while after a pool has ended."""
    give_up = time.monotonic() + GUARD
    while True:
        found = psutil.Process().children(recursive=True)
        left = [process for process in found if not is_tracker(process)]
        if not left or time.monotonic() > give_up:
            return list(map(str, left))
        time.sleep(0.02)


def is_tracker(process: psutil.Process) -> bool:
    """Whether it is Python's resource tracker, which ends with this program."""
    try:
        return "resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:
        return True  # it has ended meanwhile


def season(ledger: Ledger, method: str, calls: int, kind: str) -> None:
    """Make runs, or pools, until so many calls were begun."""
    last = ledger.begun + calls
    rounds = 0
    scheduled = None if kind == "bare" else ScheduledRounds(ledger, method, ordered=kind == "ordered")
    while (left := last - ledger.begun) > 0:
        size = min(ROUND, left)
        rounds += 1
        if scheduled is None:
            end = ledger.choose.choice(["wait", "cancel", "kill", "forget"])
            ledger.where(kind, "pool,", "end:", end)
            BarePool(ledger, method).run(size, end)
        else:
            journal = f"{ledger.place.folder}/journal-{ledger.begun}" if rounds % 2 else None
            end = ledger.choose.choice(["exhausted", "exhausted", "stop", "timeout"])
            ledger.where(kind, "run", "with" if journal else "without", "journal,", "end:", end)
            scheduled.run(size, end, journal)
        if left := left_children():
            ledger.problem(f"left after a {kind} round by {method}: {left}")
    if scheduled is not None:
        scheduled.scheduler.close()


def take_terminal(path: str) -> None:
    """Make a terminal that of this session, and of the standard streams."""
    descriptor = os.open(path, os.O_RDWR)
    for stream in range(3):
        os.dup2(descriptor, stream)
    os.close(descriptor)


def keep_log(path: str) -> None:
    """Have the package log all that it does into a file."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(threadName)s %(name)s: %(message)s"))
    logger = logging.getLogger("amltk")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)


def main() -> None:
    """Compute so many calls."""
    parser = argparse.ArgumentParser()
    parser.add_argument("place")
    parser.add_argument("mark")
    parser.add_argument("calls", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("method")
    parser.add_argument("--terminal")
    options = parser.parse_args()
    if options.terminal:
        take_terminal(options.terminal)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    keep_log(f"{options.place}/log")
    ledger = Ledger(Place(options.place, options.mark), options.seed)
    for kind, share in SEASONS.items():
        season(ledger, options.method, max(1, round(options.calls * share)), kind)
    ledger.note("D")


if __name__ == "__main__":
    main()
