"""Milliseconds by which `run(timeout=..., wait=False)` overruns, and the processes it leaves behind."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import subprocess
import sys
import time
import uuid

import psutil
from _leaving import has_ended
from _report import report

WORKERS = 2
TASKS = 6
TIMEOUT = 1.0


def sleep_long(mark: str) -> None:
    time.sleep(600)


def spawn_and_wait(mark: str) -> None:
    """Start a subprocess, as compute often does, and wait for it."""
    subprocess.run([sys.executable, "-c", "import time; time.sleep(600)", mark], check=True)


FUNCTIONS = {"sleep": sleep_long, "spawn": spawn_and_wait}


def left_behind(mark: str) -> list[psutil.Process]:
    """The descendants of this process, and what they started, that are still alive."""
    mine = psutil.Process().children(recursive=True)
    marked = [process for process in psutil.process_iter(["cmdline"]) if mark in (process.info["cmdline"] or ())]
    return [process for process in {*mine, *marked} if not has_ended(process)]


def bare(what: str, mark: str) -> float:
    """The machine's own speed: kill as many such workers, with their children, and wait for their exits."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=FUNCTIONS[what], args=(mark,)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    time.sleep(TIMEOUT)
    began = time.perf_counter()
    tree = psutil.Process().children(recursive=True)
    for process in tree:
        process.kill()
    for worker in workers:
        worker.join()
    while not all(map(has_ended, tree)):
        time.sleep(0.001)
    return time.perf_counter() - began


def scheduled(what: str, mark: str) -> float:
    from amltk.scheduling import Scheduler

    scheduler = Scheduler.with_processes(WORKERS)

    @scheduler.on_start
    def launch() -> None:
        for _ in range(TASKS):
            scheduler.submit(FUNCTIONS[what], mark)

    began = time.perf_counter()
    scheduler.run(timeout=TIMEOUT, wait=False, display=False, on_exception="continue", on_cancelled="continue")
    return time.perf_counter() - began - TIMEOUT


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["bare", "scheduler"])
    parser.add_argument("what", choices=FUNCTIONS)
    given = parser.parse_args()
    mark = uuid.uuid4().hex
    seconds = (bare if given.how == "bare" else scheduled)(given.what, mark)
    left = left_behind(mark)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    report(overrun_milliseconds=seconds * 1e3, left_behind=len(left))


if __name__ == "__main__":
    main()
