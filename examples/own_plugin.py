"""A custom plugin: each call gets a scratch directory, which is removed when the call ends, however it ends.

Four calls leave files in theirs: one returns, one raises, one loses its worker, and one is cancelled.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

from amltk.scheduling import Event, Future, Scheduler
from amltk.scheduling.plugins import GivingPlugin


class Scratch(GivingPlugin):
    """Gives each call its own directory as the keyword argument `scratch`, and removes it at the end.

    Args:
        parent: Where to create the directories; None for the system's temporary directory.
    """

    name = "scratch"

    SCRATCH_LEFT: Event[[Future, dict[str, int]]] = Event("scratch-left")
    """A call has left files. Callbacks get its future and the size of each file; the event of its outcome follows."""

    def __init__(self, parent=None):
        self.parent = parent
        self.task = None
        self.root = None  # of this run; contains a directory for each pending call

    def attach_task(self, task):
        if self.task is not None:
            raise ValueError(f"this Scratch belongs to {self.task!r}; create another one for {task!r}")
        self.task = task
        task.scheduler.on_finished(hidden=True)(self._remove_root)

    def events(self):
        return [self.SCRATCH_LEFT]

    def prepare(self, call):
        if self.root is None:
            self.root = Path(tempfile.mkdtemp(prefix="scratch-", dir=self.parent))
        directory = Path(tempfile.mkdtemp(dir=self.root))
        # First of all, so that it is also removed if a later plugin refuses or submitting raises. The worker of a
        # cancelled call may run for another moment: what it writes meanwhile is removed with the root.
        call.on_end(partial(shutil.rmtree, directory, ignore_errors=True))
        call.on_outcome(partial(self._look, call, directory))
        call.kwargs["scratch"] = directory
        return True

    def _look(self, call, directory, outcome):
        if left := sizes_in(directory):
            call.task.emit(self.SCRATCH_LEFT, call.future, left)

    def _remove_root(self):
        """Runs at the end of the run, when its workers have exited."""
        if self.root is not None:
            shutil.rmtree(self.root)
            self.root = None

    def status(self):
        return f"in {self.root}" if self.root is not None else ""


def sizes_in(directory):
    """The size of each file in bytes, by name."""
    sizes = {}
    for path in sorted(directory.iterdir()):
        try:
            sizes[path.name] = path.stat().st_size
        except FileNotFoundError:
            pass  # removed meanwhile by the worker of a cancelled call
    return sizes


def simulate(how, *, scratch):
    """Write a file in a worker process, and end in one of four ways."""
    (scratch / f"{how}.log").write_text("step\n" * len(how))
    if how == "raise":
        raise ValueError("the simulation diverged")
    if how == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        time.sleep(3600)
    return "done"


def main():
    scheduler = Scheduler.with_processes(2)
    parent = tempfile.mkdtemp(prefix="example-")
    simulation = scheduler.task(simulate, plugins=Scratch(parent))
    names = {}

    @scheduler.on_start
    def launch():
        for how in ("hang", "return", "raise", "crash"):
            names[simulation.submit(how)] = how

    @simulation.on("scratch-left")  # or on(Scratch.SCRATCH_LEFT)
    def keep(future, left):
        print(f"{names[future]:6} has left {left}")

    @simulation.on_result
    def succeed(future, result):
        print(f"{names[future]:6} has returned {result!r}")

    @simulation.on_exception
    def fail(future, error):
        print(f"{names[future]:6} has failed, {type(error).__name__}")
        if names[future] == "crash":  # no other call is running any more
            for left in simulation.queue:
                left.cancel()

    @simulation.on_cancelled
    def give_up(future):
        print(f"{names[future]:6} was cancelled")

    state = scheduler.run(on_exception="continue", on_cancelled="continue")
    print(f"{state.code.name}, and the scratch directories are {'still there' if os.listdir(parent) else 'gone'}")
    os.rmdir(parent)


if __name__ == "__main__":
    main()
