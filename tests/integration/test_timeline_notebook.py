"""A timeline as the value of a cell: in a real kernel, and as shown in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.timeline import Timeline
from amltk.scheduling.timeline.recorder import SHOWN_IN_NOTEBOOK
from tests.helpers.kernel import Kernel
from tests.helpers.patches import needs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Frame, Page

    from tests.helpers.browser import Window

    OpenWindow = Callable[..., Window]

pytestmark = pytest.mark.integration

CELL = """
from amltk.scheduling import Scheduler
from amltk.scheduling.timeline import Timeline

scheduler = Scheduler.with_processes(2)
timeline = Timeline(scheduler)
scheduler.on_start(lambda: [scheduler.submit(int, text) for text in ("1", "two", "3 < 4")])
scheduler.run(on_exception="continue", display=False)
"""


def recorded() -> Timeline:
    """Return the timeline of two calls, one of which has failed."""
    scheduler = Scheduler.with_sequential()
    timeline = Timeline(scheduler)
    scheduler.on_start(lambda: [scheduler.submit(int, text) for text in ("1", "</iframe> \"two\" & 'three'")])
    scheduler.run(on_exception="continue")
    return timeline


def shown(html: str, folder: Path, open_window: OpenWindow) -> tuple[Page, Frame]:
    """Return a notebook's page with this output between others, and the output's frame, once it has drawn."""
    file = folder / "notebook.html"
    file.write_text(f"<body><div style='height: 900px'>in</div>{html}<div style='height: 2000px'>in</div>")
    page = open_window(viewport={"width": 1000, "height": 900}).open(file)
    page.locator("iframe").scroll_into_view_if_needed()
    frame = page.frames[1]
    frame.wait_for_function("() => Number(chart.dataset.frames) > 0")
    return page, frame


class Shown(NamedTuple):
    """What a kernel makes of a timeline.

    Attributes:
        html: What it displays.
        text: The same where HTML is not shown.
        value: The text of a cell whose value it is.
    """

    html: str
    text: str
    value: str


@pytest.fixture(scope="module")
def from_kernel(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """A timeline from a kernel that ends before the browser starts: both would run a loop here."""
    needs("ipykernel", "jupyter_client")
    with Kernel(tmp_path_factory.mktemp("jupyter")) as kernel:
        assert kernel.execute(CELL).error is None
        displayed = kernel.execute("display(timeline)")
        value = kernel.execute("timeline").result
    assert (displayed.error, displayed.printed) == (None, "")
    ((_, forms),) = displayed.shown
    return Shown(forms["text/html"], forms["text/plain"], value)


def test_the_value_of_a_cell_is_the_page(from_kernel: Shown, tmp_path: Path, open_window: OpenWindow) -> None:
    """The notebook gets the page with all its data, and one line of text where there is no HTML."""
    assert from_kernel.text == from_kernel.value == "<Timeline: 1 succeeded, 2 failed>"
    _, frame = shown(from_kernel.html, tmp_path, open_window)
    assert frame.locator("#legend").inner_text().split() == ["succeeded", "1", "failed", "2"]
    assert int(frame.locator("#chart").get_attribute("data-drawn") or 0) >= 1


def test_it_stays_in_its_frame(tmp_path: Path, open_window: OpenWindow) -> None:
    """Recorded data cannot close the element, and the script reaches neither the notebook nor the network."""
    page, frame = shown(recorded()._repr_html_(), tmp_path, open_window)
    assert page.locator("iframe").count() == 1
    frame.locator("#next").click()
    frame.wait_for_function("() => !tip.hidden")
    assert "int('</iframe> \"two\" & \\'three\\'')" in frame.locator("#tip").inner_text()
    assert (
        frame.evaluate("(() => { try { return parent.document } catch { return 'not allowed' } })()") == "not allowed"
    )


def test_the_wheel_scrolls_the_notebook_until_one_clicks(tmp_path: Path, open_window: OpenWindow) -> None:
    """Scrolling through a notebook passes the timeline; after a click, the wheel zooms in it."""
    page, frame = shown(recorded()._repr_html_(), tmp_path, open_window)
    box = frame.locator("#busy").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 500, box["y"] + 20)
    before = page.evaluate("scrollY")
    whole = frame.evaluate("view.to - view.from")
    page.mouse.wheel(0, 60)
    page.wait_for_function("before => scrollY > before", arg=before)
    assert frame.evaluate("view.to - view.from") == whole

    frame.locator("#busy").click(position={"x": 500, "y": 20})
    at = page.evaluate("scrollY")
    page.mouse.wheel(0, -300)
    frame.wait_for_function("whole => view.to - view.from < whole", arg=whole)
    assert page.evaluate("scrollY") == at


def test_a_long_run_shows_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook is saved with its outputs, so the records shown are bounded; the title says what is left out."""
    timeline = recorded()
    assert "of the latest" not in timeline._repr_html_()
    monkeypatch.setattr("amltk.scheduling.timeline.recorder.SHOWN_IN_NOTEBOOK", 1)
    assert "Timeline of the last 1 of 2 records" in timeline._repr_html_()
    assert SHOWN_IN_NOTEBOOK >= 10_000


def test_an_empty_timeline_says_so() -> None:
    """Before a run there is a page, and a text as well."""
    timeline = Timeline(Scheduler.with_sequential())
    assert repr(timeline) == "<Timeline: nothing was recorded>"
    assert "<iframe" in timeline._repr_html_()
