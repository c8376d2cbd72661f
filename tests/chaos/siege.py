"""Attacks a driver from outside, and checks what is left of it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from tests.chaos.checking import check_ledgers
from tests.chaos.work import WORKERS, Place
from tests.helpers.gate import GUARD
from tests.helpers.script import PATHS

if TYPE_CHECKING:
    from types import TracebackType

DRIVER = str(Path(__file__).with_name("driver.py"))

ATTACKS = {"kill worker": 6.0, "stop worker": 4.0, "kill fork server": 0.3, "stop fork server": 0.5, "kill other": 0.5}
"""What is done to the driver's processes, and how often compared with the rest."""

SHORT_STOP, LONG_STOP = 0.5, 2.0
"""How many seconds processes are stopped at most. In a long one, calls are sent to a worker, and taken back, so often
that there are no new tokens left, see `dispatcher`."""

SECONDS = 2.0
"""How long something may be left of a driver that has ended."""

MARK = "AMLTK_CHAOS"
"""The environment variable by which all processes of a driver are found, whatever session they are in."""


class Report(NamedTuple):
    """What a chaos run has shown.

    Attributes:
        counts: How many calls ended in which way, and how many attacks there were.
        problems: What went wrong; empty if all went well.
    """

    counts: Counter[str]
    problems: list[str]


class Driver:
    """A running driver, with folders of its own.

    Args:
        calls: How many calls it computes.
        seed: The seed of its choices.
        method: How workers are started.
        terminal: Its terminal; None for none.
    """

    def __init__(self, calls: int, seed: int, method: str, *, terminal: str | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="amltk-chaos-")
        self.mark = f"chaos-{uuid.uuid4().hex[:12]}"
        self.place = Place(self._folder.name, self.mark)
        self.temporary = Path(self.place.folder, "tmp")
        self.temporary.mkdir()
        self._errors = Path(self.place.folder, "stderr")
        environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONWARNINGS", "PYTHONPATH"}}
        environment |= {"PYTHONPATH": os.pathsep.join(PATHS), "TMPDIR": str(self.temporary), MARK: self.mark}
        environment |= {"PYTHONWARNINGS": "ignore::DeprecationWarning"}  # this program forks beside threads
        options = [f"--terminal={terminal}"] if terminal else []
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, DRIVER, self.place.folder, self.mark, str(calls), str(seed), method, *options],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=environment,
                cwd=self.place.folder,
                start_new_session=True,
            )

    def __enter__(self) -> Driver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        for process in self.processes():
            process.kill()
        self.process.wait()
        self._folder.cleanup()

    def processes(self) -> list[psutil.Process]:
        """All live processes that it or its calls have started, itself included."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue  # it has ended, or is another user's
        return found

    def below(self) -> list[psutil.Process]:
        """The processes below it, without Python's own resource tracker."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
            return [process for process in found if "resource_tracker" not in " ".join(command(process))]
        except psutil.Error:
            return []

    def size(self) -> int:
        """How much it has recorded; grows as long as it goes on."""
        file = Path(self.place.folder, "events")
        return file.stat().st_size if file.exists() else 0

    def errors(self) -> str:
        """What it has written to its standard streams."""
        return self._errors.read_text(errors="replace")

    def left_behind(self, seconds: float) -> list[str]:
        """What is left of it after it has ended, some seconds later at the latest."""
        give_up = time.monotonic() + seconds
        while (left := [*self.processes(), *self._segments()]) and time.monotonic() < give_up:
            time.sleep(0.02)
        return [f"left behind: {one}" for one in left]

    def _segments(self) -> list[str]:
        shared = Path("/dev/shm")
        made = {number for what, number, _ in self.place.read("calls") if what == "M"}
        names = os.listdir(shared) if shared.exists() else []
        return [name for name in names if self.mark in name and name.rpartition("-")[2] in made]


def command(process: psutil.Process) -> list[str]:
    """The command line of a process; empty if it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


class Attacker:
    """Kills, stops and continues processes of a driver.

    Args:
        driver: Whose.
        seed: The seed of what is done when.
        rate: How often it does something, in times a second.
    """

    def __init__(self, driver: Driver, seed: int, rate: float = 8.0) -> None:
        self._driver = driver
        self._choose = random.Random(f"attacker {seed}")
        self._rate = rate
        self._stopped: list[tuple[float, psutil.Process]] = []
        self._progress = 0
        self.counts: Counter[str] = Counter()

    def turn(self) -> None:
        """Do something to somebody, and continue who was stopped long enough."""
        time.sleep(min(0.5, self._choose.expovariate(self._rate)))
        self.resume(before=time.monotonic())
        attack = self._choose.choices([*ATTACKS], [*ATTACKS.values()])[0]
        action, _, whom = attack.partition(" ")
        victim = self._victim(whom)
        if victim is None:
            return
        try:
            victim.send_signal(signal.SIGKILL if action == "kill" else signal.SIGSTOP)
        except psutil.Error:
            return  # it has ended by itself
        if action == "stop":
            longest = LONG_STOP if whom == "worker" and self._choose.random() < 0.3 else SHORT_STOP
            self._stopped.append((time.monotonic() + self._choose.uniform(0, longest), victim))
        self.counts[attack] += 1
        self._driver.place.note("attacks", attack, victim.pid)

    def resume(self, before: float = float("inf")) -> None:
        """Continue those whose time has come."""
        for at, process in self._stopped:
            if at <= before:
                try:
                    process.send_signal(signal.SIGCONT)
                except psutil.Error:
                    continue  # it was killed meanwhile
                self._driver.place.note("attacks", "continue", process.pid)
        self._stopped = [pair for pair in self._stopped if pair[0] > before]

    def _victim(self, whom: str) -> psutil.Process | None:
        below = self._driver.below()
        calls = self._driver.place.read("calls")
        workers = {int(pid) for _, _, pid in calls[-50:]}
        if whom != "worker":
            # Three starts in succession that fail break a pool, as they should.
            if len(calls) < self._progress + 4 * WORKERS:
                return None
            self._progress = len(calls)
        if whom == "worker":
            candidates = [process for process in below if process.pid in workers]
        elif whom == "fork server":
            candidates = [
                process
                for process in below
                if process.pid not in workers and "fork_server" in " ".join(command(process))
            ]
            candidates = candidates[:1]
        else:
            candidates = [process for process in below if process.pid not in workers]
        return self._choose.choice(candidates) if candidates else None


def besiege(
    calls: int, seed: int, method: str, *, patience: float = SECONDS, keep: str | os.PathLike[str] | None = None
) -> Report:
    """Let a driver compute calls while its processes are attacked, and check what came of them.

    Args:
        calls: How many calls.
        seed: The seed of all choices.
        method: How workers are started.
        patience: How long something may be left after the driver's end, in seconds.
        keep: Where to copy the driver's folder to if something goes wrong, into a folder of its own; None for nowhere.
    """
    with Driver(calls, seed, method) as driver:
        attacker = Attacker(driver, seed)
        problems = _attack_until_end(driver, attacker)
        attacker.resume()
        problems += driver.left_behind(patience)
        problems += [f"left in the temporary folder: {path.name}" for path in driver.temporary.iterdir()]
        counts, wrong = check_ledgers(driver.place, attacker.counts)
        problems += wrong
        if driver.process.returncode or problems:
            problems.append(f"the driver ended with {driver.process.returncode}, and wrote: {driver.errors()[-6000:]}")
            if keep is not None:
                kept = shutil.copytree(driver.place.folder, Path(keep, driver.mark))
                problems.append(f"all that was recorded is in {kept}")
        return Report(counts + attacker.counts, problems)


def _attack_until_end(driver: Driver, attacker: Attacker) -> list[str]:
    size, give_up = -1, time.monotonic() + GUARD
    while driver.process.poll() is None:
        attacker.turn()
        if driver.size() != size:
            size, give_up = driver.size(), time.monotonic() + GUARD
        elif time.monotonic() > give_up:
            attacker.resume()
            driver.process.send_signal(signal.SIGUSR1)  # it writes where its threads are
            time.sleep(2)
            driver.process.kill()
            driver.process.wait()
            return ["the driver hangs"]
    return []
