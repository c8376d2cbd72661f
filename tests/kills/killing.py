"""Kills programs with a journal at random moments, and checks their final state."""

from __future__ import annotations

import random
import re
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import amltk.journal
from tests.helpers.gate import GUARD
from tests.helpers.script import Ended, Script, run_script

PROGRAMS = Path(__file__).with_name("programs.py")

NUMBER = re.compile(r"\((?:number=)?(\d+)")
"""The first argument of a call."""


class Verdict(NamedTuple):
    """The result of killing a program.

    Attributes:
        kills: How often it was killed.
        computed: How many calls were computed in all.
        problems: What went wrong; empty if all went well.
    """

    kills: int
    computed: int
    problems: list[str]


class Victim:
    """A program in folders of its own, which is killed again and again.

    Args:
        name: One of `programs.PROGRAMS`.
        seed: The seed of the random moments.
        place: A folder for its files.
    """

    def __init__(self, name: str, seed: int, place: Path) -> None:
        self.folder, self._computed = place / "journal", place / "computed"
        self._computed.touch()
        self._choose = random.Random(f"{name} {seed}")
        arguments = [str(PROGRAMS), name, str(self.folder), str(self._computed)]
        self.source = f"import runpy, sys\nsys.argv = {arguments!r}\nrunpy.run_path(sys.argv[0], run_name='__main__')"
        self.problems: list[str] = []
        self.kills = 0

    def computed(self) -> list[str]:
        """Return what was computed: a line for each call."""
        return self._computed.read_text().splitlines()

    def returned(self) -> set[str]:
        """Return what has a result in the journal, as lines like those of `computed`."""
        if not (self.folder / "journal.log").exists() or not (self.folder / "journal.log").stat().st_size:
            return set()
        calls = amltk.journal.open(self.folder).calls()
        found = ((call.task, NUMBER.match(call.arguments)) for call in calls if call.state == "result")
        return {f"{task} {match[1]}" for task, match in found if match}

    def kill_once(self) -> Ended | None:
        """Start the program and kill it: after some calls, or after some time, whatever it is doing then.

        Returns:
            How it ended, if it completed first.
        """
        size = self._computed.stat().st_size + self._choose.choice([1, 1, 60, 150, 300])
        seconds = self._choose.choice([GUARD, GUARD, self._choose.uniform(0.2, 1.2)])
        pause = self._choose.choice([0.0, self._choose.uniform(0, 0.03)])
        with Script(self.source) as script:
            begun = time.monotonic()
            while script.process.poll() is None and self._computed.stat().st_size < size:
                if time.monotonic() > begun + seconds:
                    break
                time.sleep(0.001)
            time.sleep(pause)
            if script.process.poll() is not None:
                return script.end()
            script.process.kill()
            script.process.wait()
            self.kills += 1
            deadline = time.monotonic() + GUARD
            while left := script.session():
                if time.monotonic() > deadline:
                    self.problems.append(f"it left processes behind: {left}")
                    break
                time.sleep(0.01)
        return None

    def check_end(self, ended: Ended) -> None:
        """Check that the program ended well, and that a replay of its journal agrees and computes nothing."""
        if ended.code:
            self.problems.append(f"it ended with {ended.code}: {ended.errors[-3000:]}")
            return
        before = self.computed()
        again = run_script(self.source)
        if again.lines != ended.lines:
            self.problems.append(f"it came to know {ended.lines}, and its journal tells {again.lines} {again.errors}")
        if self.computed() != before:
            self.problems.append(f"a finished journal computed {self.computed()[len(before) :]}")


def kill(name: str, seed: int, kills: int) -> Verdict:
    """Kill a program `kills` times, let it complete, and check everything.

    What has a result in the journal when the program is killed must not be computed again; the final state of its
    callbacks must be the same as that of a replay without kills; and no process may be left.
    """
    with tempfile.TemporaryDirectory(prefix="amltk-kills-") as place:
        victim = Victim(name, seed, Path(place))
        known: list[tuple[int, set[str]]] = []
        ended = None
        while ended is None and victim.kills < kills:
            ended = victim.kill_once()
            known.append((len(victim.computed()), victim.returned()))
        victim.check_end(ended or run_script(victim.source))
        computed = victim.computed()
        for size, returned in known:
            if twice := returned & set(computed[size:]):
                victim.problems.append(f"computed again although it had a result: {sorted(twice)}")
        return Verdict(victim.kills, len(computed), victim.problems)
