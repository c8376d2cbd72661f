"""The chart of a run whose calls have devices, and depend on one another's results, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling.timeline.page import page as render
from amltk.scheduling.timeline.record import Record
from tests.helpers.browser import windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.integration

START = 1_700_000_000.0
LANE = 26
"""The height of a lane when there are few, in pixels."""


def computed(call: int, worker: int, began: float, ended: float, **more: Any) -> Record:
    about = ("train", f"{call}", "succeeded", "", 1, START + began, START + began, START + ended)
    return Record(*about, "node", worker, None, by_worker=True, call=call, **more)


RECORDS = [
    computed(1, 1, 0.0, 1.0),
    computed(2, 2, 3.0, 4.0, needs=(1,), devices=("gpu 0",)),
    computed(3, 3, 3.0, 4.0, devices=("gpu 1",)),
    computed(4, 3, 4.0, 5.0, needs=(2, 3), devices=("gpu 0", "gpu 1")),
]


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Open the page of some records in a window of a given width."""
    with windows() as open_window:

        def show(records: list[Record], width: int = 1000) -> Page:
            file = tmp_path / f"{width}.html"
            file.write_text(render(records, title="Devices", dropped=0), encoding="utf-8")
            page = open_window(viewport={"width": width, "height": 700}).open(file)
            page.wait_for_function("() => Number(chart.dataset.frames || 0) > 0")
            return page

        yield show


def pointed_at(page: Page, time: float, lane: int) -> str:
    """Return the tip at the place where a time, in seconds, is drawn in a lane."""
    at = page.evaluate("time => x(1e6 * time)", time)
    box = page.locator("#bars").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + at, box["y"] + 5 + (lane + 0.4) * LANE)
    page.evaluate("() => new Promise(requestAnimationFrame)")
    return page.inner_text("#tip")


def colour(page: Page, time: float, y: int) -> list[int]:
    """Return the colour of the chart at a time, `y` pixels below its top."""
    return page.evaluate(  # type: ignore[no-any-return]
        "([time, y]) => Array.from(bars.getContext('2d').getImageData(Math.round(x(1e6 * time)), y, 1, 1).data)",
        [time, y],
    )


def test_devices_have_lanes_below_those_of_workers(show: Callable[..., Page]) -> None:
    """They show the same calls again; the calls count once in all totals, and name their devices."""
    page = show(RECORDS)
    assert page.evaluate("lanes.map(lane => lane.name)") == ["pid 1", "pid 2", "pid 3", "gpu 0", "gpu 1"]
    totals = dict(
        zip(page.locator("#totals dt").all_inner_texts(), page.locator("#totals dd").all_inner_texts(), strict=True)
    )
    assert (totals["calls"], totals["workers"], totals["devices"]) == ("4", "3", "2")
    assert page.inner_text("#notes") == ""
    assert pointed_at(page, 3.5, 1).splitlines()[-2:] == ["with gpu 0", "needed the result of another"]
    assert pointed_at(page, 4.5, 2).splitlines()[-2:] == ["with gpu 0, gpu 1", "needed the results of 2 others"]
    assert pointed_at(page, 4.5, 4).splitlines()[0] == "train(4)"
    assert page.evaluate("workUntil(data.span)") == 4e6
    assert page.evaluate("failures.length") == 0


def test_arrows_go_to_what_needed_a_result(show: Callable[..., Page]) -> None:
    """Halfway between the end of one call and the start of the other there is a line."""
    halfway = int(5 + (LANE - 5) / 2 + LANE / 2)
    pages = [show(records) for records in (RECORDS, [record._replace(needs=()) for record in RECORDS])]
    with_arrows, without = ([colour(page, 2.0, halfway + dy) for dy in (-1, 0, 1, 3 * LANE)] for page in pages)
    assert with_arrows[:3] != without[:3]
    assert with_arrows[3] == without[3]


def test_of_many_arrows_those_of_the_selected_call_are_drawn(show: Callable[..., Page]) -> None:
    """A chart with thousands of arrows would be black, and slow."""
    many = [computed(n, n % 8, 0.01 * n, 0.01 * n + 0.005) for n in range(400)]
    last = computed(400, 9, 10.0, 11.0, needs=tuple(range(400)))
    page = show([*many, last])
    assert page.evaluate("allLinks.length > MOST_LINKS")
    counts = page.evaluate(
        """() => {
            let drawn = 0;
            const original = arrow;
            arrow = (...args) => { drawn++; original(...args); };
            const count = (row) => { drawn = 0; selected = row; drawBars(); return drawn; };
            return [count(-1), count(0), count(size - 1)];
        }"""
    )
    assert counts == [0, 1, 300]


@pytest.mark.parametrize("width", [360, 1600])
def test_it_fits_windows_of_all_widths(show: Callable[..., Page], width: int) -> None:
    """Nothing overflows to the right."""
    page = show(RECORDS, width)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
