"""The page that the user wrote, `tests/data/scheduler.md`: each of its programs runs unchanged."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from amltk.scheduling import ExitState, Scheduler, Task
from amltk.testing import EventRecorder
from tests.helpers.gate import GUARD
from tests.helpers.script import run_script

PAGE = Path(__file__).parents[1] / "data" / "scheduler.md"
BLOCK = re.compile(r"^(?P<indent> *)```python exec[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE)
HIDDEN = "# markdown-exec: hide"

PROGRAMS = [textwrap.dedent(match["code"]) for match in BLOCK.finditer(PAGE.read_text())]
NAMES = ["basic", "timeout", "timeout without waiting", "call_later"]
PRINTS = ["Result: 2", "", "", "Ending now!"]


def run(program: str, folder: Path) -> str:
    """Run a program as a script, with warnings as errors, and return what it prints."""
    script = folder / "program.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=GUARD, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def without_hidden_lines(program: str) -> str:
    return "\n".join(line for line in program.splitlines() if HIDDEN not in line)


def test_the_page_has_the_programs_that_are_tested() -> None:
    """No program of the page is left out."""
    assert len(PROGRAMS) == len(NAMES)
    assert sum(program.count(HIDDEN) for program in PROGRAMS) == 6


@pytest.mark.parametrize("hidden", [True, False], ids=["as it stands", "without hidden lines"])
@pytest.mark.parametrize(("program", "prints"), list(zip(PROGRAMS, PRINTS, strict=True)), ids=NAMES)
def test_a_program_prints_what_the_page_says(program: str, prints: str, hidden: bool, tmp_path: Path) -> None:
    """Every program of the page runs, with and without its hidden lines, and prints what the page says."""
    printed = run(program if hidden else without_hidden_lines(program), tmp_path)
    plain, _, html = printed.partition("<")
    assert plain.strip() == prints
    assert bool(html) == (hidden and "doc_print" in program)


@pytest.mark.parametrize(
    ("program", "events"),
    [
        (PROGRAMS[1], {"start": 1, "timeout": 1, "finishing": 1, "finished": 1}),
        (PROGRAMS[2], {"start": 1, "timeout": 1, "future-submitted": 1, "future-cancelled": 1, "finished": 1}),
    ],
    ids=NAMES[1:3],
)
def test_a_timeout_is_seen_in_the_output(program: str, events: dict[str, int], tmp_path: Path) -> None:
    """`run(timeout=...)` triggers `@timeout`; work that it kills (`wait=False`) is reported as cancelled."""
    printed = run(
        without_hidden_lines(program)
        + "\ncounts = {event.name: n for event, n in scheduler.event_counts.items()}"
        + "\nprint(*(f'{name}={n}' for name, n in counts.items()))"
        + "\nended = sum(counts.get(f'future-{how}', 0) for how in ('result', 'exception', 'cancelled'))"
        + "\nassert counts['future-submitted'] == ended, counts",
        tmp_path,
    )
    assert {f"{name}={n}" for name, n in events.items()} <= set(printed.split())


EXEC = """
import contextlib, io, pathlib, sys

def execute(program):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "<code block>", "exec"), {"__name__": "__main__" if sys.argv[1:] else "page"})
    return printed.getvalue().partition("<")[0].strip()

for _ in range(2):
    print([execute(path.read_text()) for path in sorted(pathlib.Path(__file__).parent.glob("block-*"))])
"""


def test_the_programs_run_as_the_tool_for_documentation_runs_them(tmp_path: Path) -> None:
    """They run one after the other in one process, from text outside any module, and again when the page is rebuilt."""
    for n, program in enumerate(PROGRAMS):
        (tmp_path / f"block-{n}").write_text(program)
    assert run(EXEC, tmp_path).splitlines() == [repr(PRINTS)] * 2


def test_every_cross_reference_of_the_page_exists_and_is_documented() -> None:
    """Whatever the page links to or includes exists under that name and is documented."""
    text = PAGE.read_text()
    links = re.findall(r"\]\[(amltk\.[\w.]+)\]", text)
    included = re.findall(r"^ *::: (amltk\.[\w.]+)$", text, re.MULTILINE)
    assert len(links) >= 10
    assert len(included) == 11
    for name in {*links, *included}:
        owner, _, attribute = name.rpartition(".")
        if name in included:
            cls: Any = attribute_at(owner)
            source = "".join(inspect.getsource(base) for base in cls.__mro__[:-1])
            assert re.search(rf'^    {attribute}: .*\n    """', source, re.MULTILINE), f"{name} has no docstring"
        else:
            assert inspect.getdoc(attribute_at(name)), f"{name} has no docstring"


def attribute_at(name: str) -> Any:
    """Return the module or attribute at a dotted name."""
    module, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return getattr(attribute_at(module), attribute)


# ------------------------------------------------------------------------------------------------ sentence by sentence


def double(x: int) -> int:
    return 2 * x


class Simple(Executor):
    """An executor with nothing but a `submit(f, *args, **kwargs)`."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def test_any_executor_with_a_submit_will_do() -> None:
    """ "The Scheduler uses an Executor, a builtin python native with a `submit(f, *args, **kwargs)` function"."""
    scheduler = Scheduler(Simple())
    results: list[int] = []
    scheduler.on_start(lambda: scheduler.submit(double, 1))
    scheduler.on_future_result(lambda _, result: results.append(result))
    assert scheduler.run() == ExitState(ExitState.Code.EXHAUSTED)
    assert results == [2]


def test_a_task_is_preferred() -> None:
    """ "You should prefer to use a Task as it will emit specific events for the task at hand, and not all compute"."""
    scheduler = Scheduler.with_threads(2)
    task, other = scheduler.task(double), scheduler.task(abs)
    assert isinstance(task, Task)
    of_task: list[int] = []
    of_all: list[int] = []
    scheduler.on_start(lambda: (task.submit(1), other.submit(-7), scheduler.submit(double, 5)))
    task.on_result(lambda _, result: of_task.append(result))
    scheduler.on_future_result(lambda _, result: of_all.append(result))
    scheduler.run()
    assert of_task == [2]
    assert sorted(of_all) == [2, 7, 10]


def test_the_run_is_what_starts_it_and_start_is_first() -> None:
    """ "`scheduler.run()` is what starts the scheduler running, in which it will first emit the `@start` event"."""
    scheduler = Scheduler.with_sequential()
    recorder = EventRecorder(scheduler)
    scheduler.on_start(lambda: scheduler.submit(double, 1))
    assert recorder.names == []
    scheduler.run()
    assert recorder.names[0] == "start"


def test_it_halts_when_there_is_nothing_more() -> None:
    """ "There is no more compute happening and no more events to respond to so the scheduler will halt"."""
    scheduler = Scheduler.with_sequential()
    scheduler.on_future_result(lambda _, n: scheduler.submit(abs, n - 1) if n else None)
    scheduler.on_start(lambda: scheduler.submit(abs, 3))
    assert scheduler.run().code is ExitState.Code.EXHAUSTED
    assert scheduler.event_counts[scheduler.FUTURE_RESULT] == 4


def test_the_timeout_ends_a_run_that_would_never_end() -> None:
    """ "You can tell the Scheduler to stop after a certain amount of time; this will also trigger `@timeout`"."""
    scheduler = Scheduler.with_sequential()
    recorder = EventRecorder(scheduler)
    begun = time.monotonic()
    state = scheduler.run(timeout=0.1, end_on_empty=False)
    assert time.monotonic() - begun >= 0.1
    assert state == ExitState(ExitState.Code.TIMEOUT)
    assert recorder.names == ["start", "empty", "timeout", "finishing", "finished"]


def test_how_it_reacts_to_exceptions_is_an_argument() -> None:
    """ "How it should react to any exception that may have occurred within the Scheduler itself or your callbacks".

    Exceptions of calls and of callbacks have an argument each.
    """
    for where, argument in (("compute", "on_exception"), ("callback", "on_callback_exception")):
        for policy in ("raise", "end", "continue"):
            scheduler = Scheduler.with_sequential()
            if where == "compute":
                scheduler.on_start(lambda s=scheduler: s.submit(int, "x"))
            else:
                scheduler.on_start(lambda: int("x"))
            if policy == "raise":
                with pytest.raises(ValueError, match="invalid literal"):
                    scheduler.run(**{argument: "raise"})  # type: ignore[arg-type]
                continue
            state = scheduler.run(**{argument: policy})  # type: ignore[arg-type]
            assert (state.code is ExitState.Code.EXCEPTION) == (policy == "end")
            assert isinstance(state.exception, ValueError) == (policy == "end")


def test_a_live_display_needs_rich() -> None:
    """`run(display=...)` "requires rich to be installed": without it the error names the pip command."""
    block = "import sys; sys.modules['rich'] = None"
    program = """
        from amltk.scheduling import Scheduler
        scheduler = Scheduler.with_sequential()
        scheduler.on_start(lambda: scheduler.submit(abs, -1))
        try:
            print(scheduler.run(display=True).code.name)
        except ImportError as error:
            print(error)
        print(scheduler.run().code.name)
        """
    without = run_script(f"{block}\n{textwrap.dedent(program)}")
    assert (without.code, without.errors) == (0, "")
    assert "pip install" in without.lines[0]
    assert "amltk[rich]" in without.lines[0]
    assert without.lines[-1] == "EXHAUSTED"
    displayed = run_script(program)
    assert displayed.code == 0
    assert re.fullmatch(r"amltk: finished, .* 1 done, 0 failed, .*\n", displayed.errors)  # no terminal: a line
    assert displayed.lines == ["EXHAUSTED", "EXHAUSTED"]


def test_call_later_does_not_run_in_the_background() -> None:
    """ "This does not run the function in the background, it just schedules some function to be called later"."""
    scheduler = Scheduler.with_processes(1)
    seen: list[Any] = []

    def later(x: int, *, y: int) -> None:
        seen.append((threading.get_ident(), x, y))
        assert asyncio.get_running_loop().is_running()
        task.submit(21)  # "you could perhaps then use submit to schedule a Task to run the function in the background"

    task = scheduler.task(double)
    task.on_result(lambda _, result: seen.append(result))
    task.on_result(scheduler.stop)
    scheduler.on_start(lambda: scheduler.call_later(0.01, later, 1, y=2))
    assert scheduler.run(end_on_empty=False).code is ExitState.Code.STOPPED
    assert seen == [(threading.get_ident(), 1, 2), 42]


def test_call_later_waits_as_long_as_it_was_told() -> None:
    """`call_later(delay, fn)` calls in order of the delays, never early, and not after being cancelled."""
    scheduler = Scheduler.with_sequential()
    called: list[tuple[str, float]] = []

    def note(name: str) -> None:
        called.append((name, time.monotonic()))
        if name == "late":
            scheduler.stop()

    @scheduler.on_start
    def schedule() -> None:
        called.append(("now", time.monotonic()))
        scheduler.call_later(0.1, note, "late")
        scheduler.call_later(0.05, note, "early")
        handle = scheduler.call_later(0.06, note, "cancelled")
        handle.cancel()
        assert handle.cancelled()

    scheduler.run(end_on_empty=False)
    (_, begun), (first, early), (second, late) = called
    assert (first, second) == ("early", "late")
    assert early - begun >= 0.05
    assert late - begun >= 0.1
