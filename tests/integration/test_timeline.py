"""A timeline of real runs, and its page in a real browser."""

from __future__ import annotations

import json
import os
import random
import re
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.timeline import Record, Timeline
from amltk.scheduling.timeline.page import page as render
from tests.helpers.browser import resize

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Locator, Page

    from tests.helpers.browser import Window

    OpenWindow = Callable[..., Window]

pytestmark = pytest.mark.integration

START = 1_700_000_000.0
MANY = 100_000
WORKERS = 16
WIDTH, HEIGHT = 1400, 900


# ------------------------------------------------------------------------------------------------------------ real runs


def halve(n: int) -> float:
    if n % 3 == 2:
        raise ValueError(f"{n} is not liked")
    return n / 2


def die(n: int) -> None:
    os._exit(n)


def test_a_run_on_processes_is_recorded_with_its_workers() -> None:
    """Each call has one record with its worker's process and times; no worker does two things at once."""
    scheduler = Scheduler.with_processes(2)
    timeline = Timeline(scheduler)
    task = scheduler.task(halve)
    scheduler.on_start(lambda: [task.submit(n) for n in range(300)])
    scheduler.run(on_exception="continue")

    records = timeline.records()
    assert sorted(int(record.arguments) for record in records) == list(range(300))
    assert sum(record.outcome == "failed" for record in records) == 100
    workers: dict[int | None, list[Record]] = {}
    for record in records:
        assert record.by_worker
        workers.setdefault(record.pid, []).append(record)
    assert 1 <= len(workers) <= 2
    for mine in workers.values():
        mine.sort(key=lambda record: record.began or 0)
        assert all((one.ended or 0) <= (other.began or 0) for one, other in pairwise(mine))


def test_a_lost_worker_is_seen_in_the_timeline() -> None:
    """A call that crashed its worker has failed, and has an end although the worker did not report it."""
    scheduler = Scheduler.with_processes(1)
    timeline = Timeline(scheduler)
    scheduler.on_start(lambda: scheduler.submit(die, 3))
    scheduler.run(on_exception="continue")
    (record,) = timeline.records()
    assert record.outcome == "failed"
    assert record.error.startswith("WorkerLostError: ")
    assert "exit code 3" in record.error


def test_threads_are_told_apart() -> None:
    """Two calls that wait for each other were in two threads of this process."""
    both = threading.Barrier(2)
    scheduler = Scheduler.with_threads(2)
    timeline = Timeline(scheduler)
    scheduler.on_start(lambda: [scheduler.submit(both.wait) for _ in range(2)])
    scheduler.run()
    one, other = timeline.records()
    assert one.pid == other.pid == os.getpid()
    assert one.thread != other.thread
    assert (one.began or 0) < (other.ended or 0)
    assert (other.began or 0) < (one.ended or 0)


def test_the_data_frame_has_times_and_workers() -> None:
    """Times are in UTC, durations in seconds, and a call that never began has none."""
    scheduler = Scheduler.with_sequential()
    timeline = Timeline(scheduler)
    scheduler.on_start(lambda: [scheduler.submit(halve, n) for n in range(3)])
    scheduler.on_start(lambda: scheduler.queue[-1].cancel())
    scheduler.run(on_exception="continue", on_cancelled="continue")

    frame = timeline.df().sort_values("submitted")
    assert list(frame["outcome"]) == ["succeeded", "succeeded", "cancelled"]
    assert str(frame["began"].dtype).endswith("UTC]")
    assert list(frame["duration"].isna()) == [False, False, True]
    assert (frame["duration"].dropna() >= 0).all()
    assert list(frame["worker"][:2]) == [f"pid {os.getpid()}"] * 2
    assert frame["error"].eq("").all()


def test_nothing_recorded_is_an_empty_data_frame() -> None:
    """Before a run, the frame has all columns and no rows."""
    frame = Timeline(Scheduler.with_sequential()).df()
    assert len(frame) == 0
    assert {*Record._fields, "worker", "waited", "duration"} == set(frame.columns)


# ------------------------------------------------------------------------------------------------------- in the browser


def recorded(n: int, workers: int) -> list[Record]:
    """Return calls of similar length; every fiftieth fails, every hundredth is cancelled."""
    dice = random.Random(7)
    free = [START] * workers
    records = []
    for number in range(n):
        worker = number % workers
        began = free[worker] + 0.002
        ended = free[worker] = began + 0.01 + dice.random() * 0.05
        outcome = "failed" if number % 50 == 49 else "cancelled" if number % 100 == 0 else "succeeded"
        error = "ValueError: the loss is <b>nan</b>" if outcome == "failed" else ""
        name = "train" if number % 2 else "evaluate"
        about = (name, f"{number}, tag='</script><b>'", outcome, error, 1, began - 0.001)
        records.append(Record(*about, began, ended, "node", 1000 + worker, None, by_worker=True))
    return records


@pytest.fixture
def show(open_window: OpenWindow, tmp_path: Path) -> Callable[..., Page]:
    """Open the page of some records."""

    def show(records: list[Record], *, dropped: int = 0, **options: Any) -> Page:
        file = tmp_path / "timeline.html"
        file.write_text(render(records, title="A <run>", dropped=dropped), encoding="utf-8")
        page = open_window(viewport={"width": WIDTH, "height": HEIGHT}, **options).open(file)
        drawn(page)
        return page

    return show


def chart(page: Page) -> Locator:
    return page.locator("#chart")


def drawn(page: Page, after: int = 0) -> tuple[int, float, float]:
    """Wait for a frame after the given one; return its number of bars and the start and end of what it shows."""
    page.wait_for_function("frames => Number(chart.dataset.frames || 0) > frames", arg=after)
    data = chart(page).evaluate("chart => ({...chart.dataset})")
    return int(data["drawn"]), float(data["from"]), float(data["to"])


def frames(page: Page) -> int:
    return int(chart(page).get_attribute("data-frames") or 0)


def press(page: Page, key: str) -> tuple[int, float, float]:
    """Press a key and wait for the resulting frame."""
    before = frames(page)
    page.keyboard.press(key)
    return drawn(page, before)


def hover(page: Page, x: float, lane: int) -> str:
    """Point at a lane, `x` pixels from the left, and return the text of the tip."""
    box = page.locator("#bars").bounding_box()
    assert box is not None
    height = 20  # of a lane, if there are sixteen
    page.mouse.move(box["x"] + x, box["y"] + 5 + lane * height + height / 2)
    page.evaluate("() => new Promise(requestAnimationFrame)")
    return page.inner_text("#tip") if page.locator("#tip").is_visible() else ""


def test_a_hundred_thousand_calls_cost_what_the_window_shows(show: Callable[..., Page]) -> None:
    """At any zoom level, a frame draws at most two bars for each pixel of a lane, and far fewer than the calls."""
    page = show(recorded(MANY, WORKERS))
    most = 2 * WIDTH * WORKERS
    bars, start, end = drawn(page)
    assert WORKERS < bars <= most < MANY
    whole = end - start
    spans = []
    for _ in range(20):
        bars, start, end = press(page, "+")
        spans.append(end - start)
        assert bars <= most
    assert spans == sorted(spans, reverse=True)
    assert spans[-1] < whole / 1000
    assert bars < 20 * WORKERS, "only what is in the window is drawn"
    _, start, end = press(page, "0")
    assert end - start == whole


def test_the_mouse_zooms_where_it_points_and_drags(show: Callable[..., Page]) -> None:
    """The wheel zooms around the pointer; dragging moves the view with the pointer; a double click shows all."""
    page = show(recorded(2000, WORKERS))
    _, start, end = drawn(page)
    box = page.locator("#bars").bounding_box()
    assert box is not None
    gutter = 170
    x, y = box["x"] + 900, box["y"] + 30
    share = (900 - gutter) / (box["width"] - gutter)

    page.mouse.move(x, y)
    before = frames(page)
    page.mouse.wheel(0, -400)
    page.wait_for_function("whole => chart.dataset.to - chart.dataset.from < 0.9 * whole", arg=end - start)
    _, near, far = drawn(page, before)
    assert near + share * (far - near) == pytest.approx(start + share * (end - start), rel=1e-6)

    page.mouse.down()
    page.mouse.move(x - 100, y)
    page.mouse.up()
    page.wait_for_function("from => chart.dataset.from > from", arg=near)
    moved = float(chart(page).get_attribute("data-from") or 0) - near
    assert moved == pytest.approx(100 / (box["width"] - gutter) * (far - near), rel=1e-6)

    page.mouse.dblclick(x, y)
    page.wait_for_function("whole => chart.dataset.to - chart.dataset.from === whole", arg=end - start)


def test_pointing_at_a_call_tells_it(show: Callable[..., Page]) -> None:
    """The tip has function, arguments, outcome, error and worker, as text: none of it is interpreted as HTML."""
    page = show(recorded(MANY, WORKERS))
    assert "more in this pixel: zoom in" in hover(page, 700, 3)

    told = ""
    press(page, "f")  # the first failure from the middle on
    told = page.inner_text("#tip")
    number = int(re.findall(r"\((\d+), tag", told)[0])
    assert number % 50 == 49
    assert told.splitlines()[:3] == [
        f"train({number}, tag='</script><b>')",
        "failed",
        "ValueError: the loss is <b>nan</b>",
    ]
    assert f"pid {1000 + number % WORKERS}, " in told
    assert re.search(r"^[\d.]+ ms, after 1.00 ms of waiting$", told, re.MULTILINE)

    # The same by pointing at it: it is in the middle of the window now.
    middle = 170 + (WIDTH - 170) / 2 - 35
    assert hover(page, middle, number % WORKERS) == told
    assert hover(page, middle, WORKERS + 3) == ""
    press(page, "f")
    assert int(re.findall(r"\((\d+), tag", page.inner_text("#tip"))[0]) > number


def test_legend_and_totals_are_right(show: Callable[..., Page]) -> None:
    """The legend, the totals and each function's counts match what was recorded."""
    records = recorded(1000, 4)
    records.append(records[-1]._replace(outcome="cancelled", began=None, ended=None))
    page = show(records, dropped=12)
    assert page.title() == page.inner_text("h1") == "A <run>"
    assert page.inner_text("#legend").split() == ["succeeded", "970", "failed", "20", "cancelled", "11"]
    totals = dict(
        zip(page.locator("#totals dt").all_inner_texts(), page.locator("#totals dd").all_inner_texts(), strict=True)
    )
    computed = sum((r.ended or 0) - (r.began or 0) for r in records)
    assert (totals["calls"], totals["failed"], totals["workers"]) == ("1,001", "20", "4")
    assert totals["computed"] == f"{computed:.3g} s"
    assert 85 < int(totals["utilisation"].split()[0]) <= 100
    notes = page.inner_text("#notes")
    assert "1 never began" in notes
    assert "12 earlier ones were not kept" in notes
    lines = [line.split("\t") for line in page.inner_text("#functions").splitlines()]
    assert lines[0][:5] == ["function", "calls", "succeeded", "failed", "cancelled"]
    assert {line[0]: line[1:5] for line in lines[1:]} == {
        "train": ["501", "480", "20", "1"],
        "evaluate": ["500", "490", "0", "10"],
    }


def test_unknown_workers_are_said_to_be_unknown(show: Callable[..., Page]) -> None:
    """If the executor does not report its workers, the page says so and does not invent any."""
    unknown = [r._replace(host=None, pid=None, by_worker=False) for r in recorded(50, 3)]
    page = show(unknown)
    assert "does not report its workers" in page.inner_text("#notes")
    assert "unknown" in page.inner_text("#totals")
    assert "utilisation" not in page.inner_text("#totals")


def test_what_is_running_is_shown_as_running(show: Callable[..., Page]) -> None:
    """On a page written during a run, calls that have not ended have bars up to now."""
    records = recorded(10, 2)
    records.append(records[-1]._replace(outcome="running", began=START + 0.1, ended=None))
    records.append(records[-1]._replace(outcome="pending", began=None))
    page = show(records)
    assert page.inner_text("#legend").split()[-4:] == ["running", "1", "pending", "1"]
    assert page.inner_text("#notes") == "1 have not begun and are not drawn."


def test_an_empty_timeline_is_a_page_too(show: Callable[..., Page]) -> None:
    """If nothing was recorded, the page says so, and keys and wheel do no harm."""
    page = show([])
    assert page.inner_text("#when") == "nothing was recorded"
    for key in ("+", "-", "f", "ArrowLeft", "0"):
        page.keyboard.press(key)
    page.mouse.move(600, 300)
    page.mouse.wheel(0, -100)
    assert page.locator("#next").is_disabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_scheme_of_the_reader(show: Callable[..., Page], scheme: str) -> None:
    """Bars have the colours of the legend, on a background that is light or dark like the reader's system."""
    page = show([record for record in recorded(4, 4) if record.outcome == "succeeded"][:1], color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 3 * 128) == (scheme == "light")
    legend = page.locator("#legend i").first.evaluate("item => getComputedStyle(item).backgroundColor")
    canvas = page.locator("#bars").evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(canvas.width / 2, 10, 1, 1).data].slice(0, 3)"
    )
    assert canvas == [int(part) for part in re.findall(r"\d+", legend)]


@pytest.mark.parametrize("width", [390, 900, 2200])
def test_it_fits_windows_of_all_widths(show: Callable[..., Page], width: int) -> None:
    """The page is never wider than the window, and the chart uses the available width."""
    page = show(recorded(200, 4))
    before = frames(page)
    resize(page, width, 800)
    drawn(page, before)
    box = page.locator("#bars").bounding_box()
    assert box is not None
    assert box["width"] > 0.85 * width


def test_many_workers_are_scrolled(show: Callable[..., Page]) -> None:
    """With more workers than fit, only those in the window are drawn; the arrow keys scroll to the others."""
    page = show(recorded(3000, 300))
    bars, _, _ = drawn(page)
    assert bars < 3000 / 2
    page.focus("#chart")
    before = frames(page)
    page.keyboard.press("ArrowDown")
    drawn(page, before)
    assert page.evaluate("document.getElementById('lanes').scrollTop") > 0


def test_a_file_of_a_real_run_opens(open_window: OpenWindow, tmp_path: Path) -> None:
    """`write_html` and `write_chrome_trace` write what their names say."""
    scheduler = Scheduler.with_threads(2)
    timeline = Timeline(scheduler)
    task = scheduler.task(halve)
    scheduler.on_start(lambda: [task.submit(n) for n in range(30)])
    scheduler.run(on_exception="continue")
    timeline.write_html(tmp_path / "run.html", title="Halves")
    timeline.write_chrome_trace(tmp_path / "run.json")
    page = open_window().open(tmp_path / "run.html")
    drawn(page)
    assert page.inner_text("#legend").split() == ["succeeded", "20", "failed", "10"]
    slices = [event for event in json.loads((tmp_path / "run.json").read_text())["traceEvents"] if event["ph"] == "X"]
    assert len(slices) == 30


# -------------------------------------------------------------------------------------------------------- OpenTelemetry


def test_spans_have_the_times_at_which_calls_were_computed() -> None:
    """Each record that began has a span, with outcome, arguments and worker, and its error if there was one."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.trace import StatusCode

    scheduler = Scheduler.with_sequential()
    timeline = Timeline(scheduler)
    scheduler.on_start(lambda: [scheduler.submit(halve, n) for n in (1, 2, 3)])
    scheduler.on_start(lambda: scheduler.queue[-1].cancel())
    scheduler.run(on_exception="continue", on_cancelled="continue")

    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    assert timeline.export_spans(provider) == 2
    good, bad = memory.get_finished_spans()
    first = timeline.records()[0] if timeline.records()[0].began else timeline.records()[1]
    assert (good.start_time, good.end_time) == (round((first.began or 0) * 1e9), round((first.ended or 0) * 1e9))
    assert good.name == bad.name == "halve"
    attributes = dict(good.attributes or {})
    assert attributes["process.pid"] == os.getpid()
    assert (attributes["amltk.arguments"], attributes["amltk.outcome"]) == ("1", "succeeded")
    assert good.status.status_code is StatusCode.UNSET
    assert (bad.status.status_code, bad.status.description) == (StatusCode.ERROR, "ValueError: 2 is not liked")
    provider.shutdown()
