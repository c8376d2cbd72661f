"""The live display in a terminal with history: its last picture is kept, and so is all that was printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers.tmux import Tmux

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

TITLE = "─ Scheduler · "
PRINTED = [f"printed {n}" for n in range(30)]


def drawing(*, tasks: int = 1, step: str = "print('printed', n)") -> str:
    """Return a program that draws a display of so many tasks thirty times, and runs `step` before each."""
    return f"""
        import logging, subprocess, sys, rich
        from amltk.display.live import LiveDisplay
        from amltk.scheduling import Scheduler

        scheduler = Scheduler.with_sequential()
        tasks = [scheduler.task(function) for function in [abs, len, max, min, pow, sum, any, all] * 5][:{tasks}]
        display = LiveDisplay(scheduler)
        display.start()
        for n in range(30):
            {step}
            display.refresh()
        display.stop()
        print("after")
        """


STEPS = {
    "print": "print('printed', n)",
    "print to stderr": "print('printed', n, file=sys.stderr)",
    "rich": "rich.print('printed', n)",
    "a log": "n or logging.basicConfig(format='%(message)s'); logging.warning('printed %d', n)",
    "another process": "subprocess.run(['echo', 'printed', str(n)], check=True)",
}


@pytest.mark.parametrize("tasks", [1, 40], ids=["a low panel", "a panel as high as the terminal"])
@pytest.mark.parametrize("step", STEPS)
def test_one_picture_and_all_that_was_printed_are_kept(tmp_path: Path, step: str, tasks: int) -> None:
    """However often it was redrawn, whatever has printed: each line appears once, in order, and the panel below."""
    with Tmux(tmp_path) as terminal:
        terminal.start(drawing(tasks=tasks, step=STEPS[step]))
        terminal.wait_ended()
        lines = terminal.lines()
    assert lines[: len(PRINTED)] == PRINTED
    assert TITLE in lines[len(PRINTED)]
    assert sum(TITLE in line for line in lines) == 1
    assert "after" in lines


@pytest.mark.parametrize("tasks", [1, 40], ids=["a low panel", "a panel as high as the terminal"])
def test_redrawing_alone_takes_no_history(tmp_path: Path, tasks: int) -> None:
    """From the first line of an empty terminal, with nothing printed, redrawing leaves one picture."""
    with Tmux(tmp_path) as terminal:
        terminal.start(drawing(tasks=tasks, step="pass"))
        terminal.wait_ended()
        lines = terminal.lines()
    assert sum(TITLE in line for line in lines) == 1
    assert "after" in lines


def test_a_short_history_is_for_what_was_printed(tmp_path: Path) -> None:
    """A history of as many lines as were printed keeps every one of them."""
    with Tmux(tmp_path, history=len(PRINTED) + 2) as terminal:
        terminal.start(drawing(tasks=40))
        terminal.wait_ended()
        assert [line for line in terminal.lines() if line in PRINTED] == PRINTED


def test_a_run_on_processes_is_one_picture(tmp_path: Path) -> None:
    """A real run, whose workers print as well, leaves all that was printed and its last picture.

    Also with `python -u`, where `print` writes in pieces: the display must not erase the first ones.
    """
    with Tmux(tmp_path) as terminal:
        terminal.start("""
            import os
            os.environ["PYTHONUNBUFFERED"] = "1"  # for the workers
            import time
            from amltk.scheduling import Scheduler

            def work(n):
                time.sleep(0.1)
                print("worker", n)

            scheduler = Scheduler.with_processes(1)
            task = scheduler.task(work)
            scheduler.on_start(lambda: [task.submit(n) for n in range(15)])
            task.on_result(lambda *_: print("callback"))
            scheduler.run(display=True)
        """)
        terminal.wait_ended()
        lines = terminal.lines()
    assert sum(TITLE in line for line in lines) == 1
    assert sum(line.startswith("callback") for line in lines) == 15
    workers = [line.split()[1] for line in lines if line.startswith("worker")]
    assert workers == [str(n) for n in range(15)], "\n".join(lines)
