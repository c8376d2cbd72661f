"""`python -m tests.kills.slurm_jobs`: kills the driver of an experiment whose calls are jobs of a real Slurm.

However often it is killed, there must be one job for each call, and one outcome.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import amltk.journal
from tests.helpers import slurm as slurm_helper
from tests.helpers.gate import GUARD
from tests.helpers.script import Ended, Script

PROGRAM = """
    import os
    import time
    from amltk.scheduling import Scheduler

    def train(number, computed):
        with open(computed, "ab", buffering=0) as file:
            file.write(f"{number} {os.environ['SLURM_JOB_ID']}\\n".encode())
        time.sleep(number % 3 / 2)
        if number % 10 == 7:
            raise ValueError(number)
        return number * number

    scheduler = Scheduler.with_slurm_jobs(partition="debug", mem="100M", chdir="/", poll_interval=0.5)
    task = scheduler.task(train)
    told = {}
    task.on_result(lambda future, result: told.__setitem__(future.number, result))
    task.on_exception(lambda future, error: told.__setitem__(future.number, str(error)))
    scheduler.on_start(lambda: [task.submit(n, COMPUTED) for n in range(CALLS)])
    state = scheduler.run(journal=JOURNAL, on_exception="continue")
    print(state.code.name, sorted(told.items()))
"""


class Verdict(NamedTuple):
    """The result of killing the driver.

    Attributes:
        kills: How often it was killed.
        jobs: How many jobs were submitted.
        problems: What went wrong; empty if all went well.
    """

    kills: int
    jobs: int
    problems: list[str]


def kill(calls: int, kills: int, seed: int = 0, longest: float = 2.0) -> Verdict:
    """Start the program and kill it with SIGKILL, `kills` times, then let it complete, and check everything.

    Args:
        calls: How many calls it makes.
        kills: How often it is killed; fewer times if it has completed before.
        seed: What the moments depend on.
        longest: How many seconds it lives at most before it is killed.
    """
    with tempfile.TemporaryDirectory(prefix="amltk-kills-") as place:
        journal, computed = Path(place, "search"), Path(place, "computed")
        computed.touch()
        names = f"JOURNAL, COMPUTED, CALLS = {str(journal)!r}, {str(computed)!r}, {calls}\n"
        source = names + "\n".join(line[4:] for line in PROGRAM.splitlines())
        choose = random.Random(seed)
        before, done = next_number(), 0
        ended: Ended | None = None
        while ended is None and done < kills:
            ended = _kill_once(source, choose.uniform(0.3, longest))
            done += ended is None
        if ended is None:
            with Script(source) as script:
                script.process.wait(GUARD * 3)
                ended = script.end()
        return Verdict(done, next_number() - before - 1, _problems(ended, calls, journal, computed))


def _kill_once(source: str, seconds: float) -> Ended | None:
    """Kill the program after some seconds; return how it ended if it completed first."""
    with Script(source) as script:
        try:
            script.process.wait(seconds)
        except subprocess.TimeoutExpired:
            script.process.kill()
            script.process.wait()
            return None
        return script.end()


def _problems(ended: Ended, calls: int, journal: Path, computed: Path) -> list[str]:
    if ended.code:
        return [f"it ended with {ended.code}: {ended.errors[-3000:]}"]
    outcomes = {n: str(n) if n % 10 == 7 else n * n for n in range(calls)}
    problems = []
    if ended.lines != [f"EXHAUSTED {sorted(outcomes.items())}"]:
        problems.append(f"it came to know {ended.lines}")
    numbers = [line.split()[0] for line in computed.read_text().splitlines()]
    if sorted(map(int, numbers)) != list(range(calls)):
        problems.append(f"these calls were computed: {numbers}")
    states = [call.state for call in amltk.journal.open(journal).calls()]
    if sorted(states) != sorted("exception" if n % 10 == 7 else "result" for n in range(calls)):
        problems.append(f"the journal says {states}")
    if left := [path.name for path in (journal / "jobs").iterdir()]:
        problems.append(f"these folders are left: {left}")
    return problems


def next_number() -> int:
    """Use up a number of a job, and return it."""
    command = ["sbatch", "--parsable", "--output=/dev/null", "--hold", "--wrap=:"]
    number = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(["scancel", number], check=True)
    return int(number)


def main() -> int:
    """Print the verdict. Return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills.slurm_jobs", description=__doc__)
    parser.add_argument("--calls", type=int, default=100, help="how many calls the experiment has")
    parser.add_argument("--kills", type=int, default=20, help="how often it is killed")
    parser.add_argument("--seed", type=int, default=0, help="what the moments depend on")
    options = parser.parse_args()
    why = slurm_helper.missing()
    if why is not None:
        sys.stderr.write(f"there is no Slurm here: {why}\n")
        return 1
    began = time.monotonic()
    with slurm_helper.slurm():
        verdict = kill(options.calls, options.kills, options.seed)
    right = not verdict.problems and verdict.jobs == options.calls
    sys.stdout.write(
        f"{verdict.kills} kills, {options.calls} calls, {verdict.jobs} jobs, {time.monotonic() - began:.0f} s: "
        f"{'right' if right else '; '.join(verdict.problems) or 'WRONG'}\n"
    )
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
