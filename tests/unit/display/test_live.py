"""Displaying a run while it runs."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
import rich
from rich.text import Text

from amltk.display._screens.region import RESTORE_CURSOR
from amltk.display._screens.screens import LineScreen, NotebookScreen, TerminalScreen, screen_for
from amltk.display.live import LiveDisplay
from amltk.scheduling import Scheduler
from amltk.scheduling.snapshot import Snapshot
from amltk.testing import ManualExecutor, run_in_virtual_time
from tests.unit.display.drawing import console, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

SHOW_CURSOR = "\x1b[?25h"
HIDE_CURSOR = "\x1b[?25l"


@pytest.fixture(autouse=True)
def terminal_is_restored() -> Iterator[None]:
    """Assert after each test that the standard streams are restored and that no region is left open."""
    before = sys.stdout, sys.stderr
    yield
    assert (sys.stdout, sys.stderr) == before
    assert TerminalScreen._all_open == []


class Broken:
    """A renderable that fails from a certain time on."""

    def __init__(self, after: int = 0) -> None:
        self.after = after

    def __rich__(self) -> str:
        self.after -= 1
        if self.after < 0:
            raise ZeroDivisionError("this cannot be drawn")
        return "still fine"


def a_scheduler(n: int = 3) -> tuple[Scheduler, ManualExecutor]:
    """A scheduler whose `@start` submits a task this many times."""
    executor = ManualExecutor()
    scheduler = Scheduler(executor)
    task = scheduler.task(len)
    scheduler.on_start(lambda: [task.submit(()) for _ in range(n)])
    return scheduler, executor


def run_with(scheduler: Scheduler, display: LiveDisplay, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Run in virtual time with this display."""
    monkeypatch.setattr("amltk.scheduling._scheduler.runs.view_of", lambda *_args, **_options: display)
    run_in_virtual_time(scheduler.async_run(display=True, **options))


def test_in_a_terminal_a_region_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal the cursor is hidden, each picture replaces the previous one, and at the end all is restored."""
    scheduler, executor = a_scheduler()
    to = console(terminal=True)
    scheduler.on_start(lambda: scheduler.call_later(1.1, lambda: [executor.finish(n) for n in range(3)]))
    run_with(scheduler, LiveDisplay(scheduler, ["mine"], console=to), monkeypatch)
    text = written(to)
    assert text.startswith(HIDE_CURSOR)
    assert text.endswith(SHOW_CURSOR)
    # At the start, four times in 1.1 s, and twice at the end: the last one uses the empty line above it.
    assert text.count("─ Scheduler · ManualExecutor ─") == 7
    assert "starting   0:00 elapsed" in text
    assert "3 pending · 0 running · 0 done" in text
    assert "finished   0:00 elapsed" in text.rpartition("─ Scheduler")[2]
    assert "0 pending · 0 running · 3 done" in text.rpartition("─ Scheduler")[2]
    assert text.count("mine") == 7
    assert re.search(r"\x1b\[\d+A", text), "the cursor goes up, to draw in place"


def test_what_callbacks_print_goes_above_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """`print` in a callback is shown completely, with the picture below it again."""
    scheduler, executor = a_scheduler(1)
    to = console(terminal=True)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda: True)

    @scheduler.on_future_submitted
    def say(future: object) -> None:
        print("[bold]not markup[/bold]")  # noqa: T201 - what callbacks do
        print("on stderr", file=sys.stderr)  # noqa: T201
        executor.finish(0)

    run_with(scheduler, LiveDisplay(scheduler, console=to), monkeypatch)
    before, _, after = written(to).partition("[bold]not markup[/bold]\n")
    assert "─ Scheduler" in before
    assert "─ Scheduler" in after
    assert "on stderr\n" in after


def test_in_a_pipe_there_are_lines_without_control_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, a line comes soon, then every ten seconds and at the end, without control codes."""
    scheduler, executor = a_scheduler()
    to = console()
    clock = scheduler_clock()
    scheduler.on_start(lambda: scheduler.call_later(5, lambda: executor.fail(0, ValueError("nan"))))
    scheduler.on_start(lambda: scheduler.call_later(22, lambda: [executor.finish(n) for n in (1, 2)]))
    run_with(scheduler, LiveDisplay(scheduler, ["mine"], console=to, clock=clock), monkeypatch, on_exception="continue")
    assert written(to).splitlines() == [
        "amltk: running, 0:01 elapsed, 3 pending, 0 running, 0 done, 0 failed, 0 cancelled, 0/s",
        "amltk: failed: len(()): ValueError: nan",
        "amltk: running, 0:11 elapsed, 2 pending, 0 running, 0 done, 1 failed, 0 cancelled, 5.5/min",
        "amltk: running, 0:21 elapsed, 2 pending, 0 running, 0 done, 1 failed, 0 cancelled, 2.9/min",
        "amltk: finished, 0:22 elapsed, 0 pending, 0 running, 2 done, 1 failed, 0 cancelled, 8.2/min",
    ]


def test_lines_are_made_when_they_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two lines the run is not even sampled."""
    looks: list[int] = []
    take = Snapshot.of
    monkeypatch.setattr(Snapshot, "of", lambda scheduler: looks.append(1) or take(scheduler))
    scheduler, executor = a_scheduler()
    scheduler.on_start(lambda: scheduler.call_later(22, lambda: [executor.finish(n) for n in range(3)]))
    run_with(scheduler, LiveDisplay(scheduler, console=console(), clock=scheduler_clock()), monkeypatch)
    assert len(looks) == 5  # before the start, three times, and at the end


def scheduler_clock() -> Callable[[], float]:
    """The clock of the running loop, which may be virtual; 0 before there is a loop."""

    def now() -> float:
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return 0.0

    return now


@pytest.mark.parametrize("terminal", [True, False])
def test_each_way_of_ending_is_drawn(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that times out is shown with its reason and its cancelled calls."""
    scheduler, _ = a_scheduler()
    to = console(terminal=terminal)
    run_with(scheduler, LiveDisplay(scheduler, timeout=1, console=to), monkeypatch, timeout=1, wait=False)
    assert "finished: timeout" in written(to)
    assert "3 cancelled" in written(to)
    if terminal:
        assert "0:01 to the timeout" in written(to) or "0:00 to the timeout" in written(to)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_display_that_raises_ends_by_itself(
    after: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A renderable that fails, at whatever time, stops only the display, which restores the terminal at once."""
    scheduler, executor = a_scheduler()
    streams = sys.stdout, sys.stderr
    to = console(terminal=True)

    def check() -> None:
        assert (sys.stdout, sys.stderr) == streams
        assert written(to).endswith(SHOW_CURSOR)
        for n in range(3):
            executor.finish(n)

    scheduler.on_start(lambda: scheduler.call_later(2, check))
    with caplog.at_level(logging.ERROR):
        run_with(scheduler, LiveDisplay(scheduler, [Broken(after)], console=to), monkeypatch, wait=False)
    assert scheduler.event_counts[scheduler.FUTURE_RESULT] == 3
    assert scheduler.emitter.subscriptions("future-exception") == ()
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_the_terminal_is_given_back_when_the_end_cannot_be_drawn() -> None:
    """A renderable that raises in the last picture does not prevent restoring the cursor and the streams."""
    scheduler, _ = a_scheduler()
    to = console(terminal=True)
    display = LiveDisplay(scheduler, [Broken(after=1)], console=to)
    display.start()
    with pytest.raises(ZeroDivisionError):
        display.stop()
    assert written(to).endswith(SHOW_CURSOR)


def test_a_second_display_on_the_same_terminal_takes_lines() -> None:
    """Two runs on one terminal do not overwrite each other: the second one prints lines above the first."""
    to = console(terminal=True)
    first = LiveDisplay(Scheduler.with_sequential(), console=to)
    second = LiveDisplay(Scheduler.with_sequential(), console=to)
    first.start()
    second.start()
    second.stop()
    first.stop()
    assert written(to).count(HIDE_CURSOR) == 1
    told = "amltk: starting, 0:00 elapsed, 0 pending, 0 running, 0 done, 0 failed, 0 cancelled, 0/s\n"
    assert f"{RESTORE_CURSOR}{told}\n╭─ Scheduler" in written(to).replace("\x1b[2m", "")


def test_in_a_forked_worker_print_goes_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker forked during a run does not draw the region: it has the original streams."""
    streams = sys.stdout, sys.stderr
    for stream in streams:
        monkeypatch.setattr(stream, "isatty", lambda: True)
    display = LiveDisplay(Scheduler.with_sequential(), console=console(terminal=True))
    display.start()
    redirected = sys.stdout, sys.stderr
    open_in_parent = list(TerminalScreen._all_open)
    assert redirected != streams
    TerminalScreen.forget_all()  # as happens in the child
    assert (sys.stdout, sys.stderr) == streams
    TerminalScreen._all_open.extend(open_in_parent)
    sys.stdout, sys.stderr = redirected
    display.stop()


class TestWhereItIsShown:
    """The choice of a screen."""

    def test_a_terminal(self) -> None:
        """A terminal gets a region."""
        assert isinstance(screen_for(console(terminal=True)), TerminalScreen)

    def test_no_terminal(self) -> None:
        """Anything else gets lines."""
        assert isinstance(screen_for(console()), LineScreen)

    def test_a_notebook(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A front end that shows HTML gets an output that is replaced."""
        to = console()
        to.is_jupyter = True
        assert isinstance(screen_for(to), NotebookScreen)

    @pytest.mark.parametrize("isatty", [True, False])
    def test_colours_that_are_forced_do_not_make_a_terminal(
        self, isatty: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pipe stays a pipe when `FORCE_COLOR` is set, as many CI systems do."""
        own = console(terminal=True)
        monkeypatch.setattr(own.file, "isatty", lambda: isatty)
        monkeypatch.setattr(rich, "_console", own)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
        assert isinstance(screen_for(None), TerminalScreen if isatty else LineScreen)

    def test_a_closed_stream(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A closed stream is neither a terminal nor an error."""
        own = console(terminal=True)
        own.file.close()
        monkeypatch.setattr(rich, "_console", own)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
        assert isinstance(screen_for(None), LineScreen)

    def test_output_that_goes_elsewhere(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """If standard output is not a terminal, the display goes to standard error, as do lines."""
        monkeypatch.setattr(rich, "_console", console())
        for isatty, screen in [(False, LineScreen), (True, TerminalScreen)]:
            monkeypatch.setattr(sys.stderr, "isatty", lambda isatty=isatty: isatty)
            monkeypatch.setenv("TERM", "xterm")
            display = LiveDisplay(Scheduler.with_sequential())
            display.start()
            assert isinstance(display._screen, screen)
            print("a result")  # noqa: T201
            display.stop()
            out, err = capsys.readouterr()
            assert out == "a result\n"
            assert ("amltk: starting" in err, "Scheduler" in err) == (not isatty, isatty)

    def test_a_terminal_that_cannot_show_the_signs(self) -> None:
        """A terminal limited to ASCII gets lines."""

        class Ascii(io.StringIO):
            encoding = "ascii"

        to = console(terminal=True)
        to.file = Ascii()
        assert isinstance(screen_for(to), LineScreen)


class Handle:
    """A stand-in for IPython's handle of a replaceable output."""

    def __init__(self, shown: list[str]) -> None:
        self.shown = shown

    def update(self, forms: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown.append(f"replaced: {forms['text/html']}")


def test_in_a_notebook_one_output_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook the first picture is displayed as HTML, and later ones replace it."""
    display_module = pytest.importorskip("IPython.display")
    shown: list[str] = []

    def show(forms: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        shown.append(f"displayed: {forms['text/html']}")
        return Handle(shown)

    monkeypatch.setattr(display_module, "display", show)
    to = console()
    to.is_jupyter = True
    display = LiveDisplay(Scheduler.with_sequential(), [Text("mine")], console=to)
    display.start()
    display.refresh()
    display.stop()
    assert [picture.partition("<")[0] for picture in shown] == ["displayed: ", "replaced: ", "replaced: "]
    assert all(picture.count("<pre") == 1 and "mine" in picture for picture in shown)


def test_a_display_that_fails_in_a_notebook_stops_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing without a last picture shows nothing more, on any screen."""
    to: Console = console()
    for screen in (NotebookScreen(), LineScreen(to), TerminalScreen(to)):
        screen.close(None)
    assert written(to) == ""
