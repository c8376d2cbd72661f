"""What the page of a timeline draws, pixel by pixel in a real browser, against the records it was made from."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from amltk.scheduling.timeline import Record
from amltk.scheduling.timeline.page import page as render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.helpers.browser import Window

    OpenWindow = Callable[..., Window]
    Show = Callable[..., Page]

pytestmark = pytest.mark.integration

START = 1_700_000_000.0
WIDTH, HEIGHT = 1400, 900
URGENT = ("failed", "retried", "cancelled", "running", "succeeded", "pending")
"""What a pixel shows of several calls: the first of these."""


def call(number: int, began: float, took: float, *, worker: int = 0, outcome: str = "succeeded") -> Record:
    """Return a call that began `began` seconds after the start."""
    began += START
    about = ("work", str(number), outcome, "", 1, began - 0.001)
    return Record(*about, began, began + took, "node", 100 + worker, None, by_worker=True)


def in_turn(durations: list[float], *, outcomes: list[str] | None = None) -> list[Record]:
    """Return the calls of one worker, one after the other."""
    records, now = [], 0.001
    for number, took in enumerate(durations):
        records.append(call(number, now, took, outcome=outcomes[number] if outcomes else "succeeded"))
        now += took
    return records


def mixed(workers: int, seed: int, *, busy: float = 0.7) -> list[Record]:
    """Return calls of microseconds to seconds for each worker, in series of similar ones, some of which fail."""
    dice = random.Random(seed)
    records = []
    for worker in range(workers):
        now = 0.001
        while now < 60:
            scale = 10 ** dice.uniform(-5, 1)
            for _ in range(dice.randint(1, 40)):
                took = scale * dice.uniform(0.3, 1)
                outcome = dice.choices(["succeeded", "failed", "cancelled", "retried"], [90, 4, 3, 3])[0]
                records.append(call(len(records), now, took, worker=worker, outcome=outcome))
                now += took + (0 if dice.random() < busy else took * dice.random())
                if now > 60:
                    break
    return records


RUNS: dict[str, list[Record]] = {
    "short and long in turn": in_turn([0.001, 3.0] * 4),
    "long and short in turn": in_turn([3.0, 0.001] * 4),
    "one long call after a thousand short ones": in_turn([1e-5] * 1000 + [5.0]),
    "one long call among a thousand short ones": in_turn([1e-5] * 500 + [5.0] + [1e-5] * 500),
    "a failure too short to be seen by itself": in_turn(
        [4.0, 1e-6, 4.0], outcomes=["succeeded", "failed", "succeeded"]
    ),
    "bars of about a pixel": in_turn([0.0007 * (n % 4) for n in range(1, 1200)]),
    "calls that overlap in their lane": [
        call(0, 0.0, 1.0),
        call(1, 0.5, 9.0, outcome="failed"),
        call(2, 0.6, 0.00001),
        call(3, 0.60001, 2.0),
        *(call(n, 3 + n / 1000, 0.00001, outcome="cancelled") for n in range(4, 500)),
    ],
    "all of them at the same moment": [call(n, 0.001, 10.0 ** -(n % 7)) for n in range(200)],
    "a mixture": mixed(5, seed=3),
}


# ------------------------------------------------------------------------------------------------- what is to be seen


class View(NamedTuple):
    """What the page shows of the records.

    Attributes:
        start: The left end, in microseconds after the first record.
        end: The right end.
        gutter: The pixel at which it starts.
        width: The pixel at which it ends.
        lane: The height of a lane.
        scrolled: How far the lanes are scrolled.
        height: The height of their visible part.
    """

    start: float
    end: float
    gutter: int
    width: int
    lane: int
    scrolled: float
    height: int

    def pixel(self, microseconds: float) -> float:
        """Return where that moment is."""
        return self.gutter + (microseconds - self.start) / (self.end - self.start) * (self.width - self.gutter)

    def lanes(self, of: list[list[Bar]]) -> Iterator[tuple[int, list[Bar]]]:
        """Return the fully visible lanes, and the height at which their bars are, above their labels."""
        for n, bars in enumerate(of):
            top = n * self.lane + 5 - self.scrolled
            if top >= 0 and top + self.lane <= self.height:
                yield round(top + 2), bars


class Bar(NamedTuple):
    """A record as it should be drawn, in microseconds after the first one."""

    number: int
    began: float
    ended: float
    outcome: str

    def edges(self, view: View) -> tuple[float, float]:
        return view.pixel(self.began), view.pixel(self.ended)

    def is_short(self, view: View) -> bool:
        left, right = self.edges(view)
        return right - left < 1


def lanes_of(records: list[Record]) -> list[list[Bar]]:
    first = min(record.submitted for record in records)
    lanes: dict[int | None, list[Bar]] = {}
    for n, record in enumerate(records):
        assert record.began is not None
        assert record.ended is not None
        began, ended = (round((time - first) * 1e6) for time in (record.began, record.ended))
        lanes.setdefault(record.pid, []).append(Bar(n, began, ended, record.outcome))
    for lane in lanes.values():
        lane.sort(key=lambda bar: bar.began)
    return list(lanes.values())


def wanted(bars: list[Bar], view: View) -> dict[int, set[str]]:
    """Return, for each pixel with a certain answer, the outcomes it may show; none for an empty one."""
    certain: dict[int, set[str]] = {pixel: set() for pixel in range(view.gutter + 1, view.width - 1)}
    visible = [bar for bar in bars if bar.ended >= view.start and bar.began <= view.end]
    for bar in visible:
        left, right = bar.edges(view)
        if not bar.is_short(view):
            for pixel in range(max(view.gutter, int(left) + 1), min(view.width, int(right) - 1)):
                if pixel in certain:
                    certain[pixel] = {bar.outcome}  # the last to begin is on top
        for edge in (
            left,
            right,
            right - 1,
            left - 1,
        ):  # beside the edge there is the gap, or what is less than a pixel
            for pixel in (int(edge - 1e-6), int(edge + 1e-6)):
                certain.pop(pixel, None)
    for pixel, outcomes in columns(visible, view).items():
        if view.gutter < pixel < view.width - 1:
            certain[pixel] = {next(outcome for outcome in URGENT if outcome in outcomes)}
    return certain


def columns(bars: list[Bar], view: View) -> dict[int, set[str]]:
    """Return the outcomes of the short calls that begin in the same pixel, where that pixel is certain."""
    found: dict[int, set[str]] = {}
    on_an_edge: set[int] = set()
    for bar in bars:
        left, _ = bar.edges(view)
        if bar.is_short(view):
            found.setdefault(int(left), set()).add(bar.outcome)
            if min(left % 1, 1 - left % 1) < 1e-6:
                on_an_edge |= {round(left) - 1, round(left)}
    return {pixel: outcomes for pixel, outcomes in found.items() if pixel not in on_an_edge}


# ----------------------------------------------------------------------------------------------------- in the browser


@pytest.fixture
def show(open_window: OpenWindow, tmp_path: Path) -> Show:
    """Open the page of some records, and wait for its first frame."""

    def show(records: list[Record], **options: Any) -> Page:
        file = tmp_path / "timeline.html"
        file.write_text(render(records, title="Drawn", dropped=0), encoding="utf-8")
        page = open_window(viewport={"width": WIDTH, "height": HEIGHT}, **options).open(file)
        page.wait_for_function("() => Number(chart.dataset.frames) > 0")
        return page

    return show


def press(page: Page, key: str) -> None:
    """Press a key and wait for the resulting frame."""
    frames = int(page.evaluate("chart.dataset.frames"))
    page.keyboard.press(key)
    page.wait_for_function("frames => Number(chart.dataset.frames) > frames", arg=frames)


def view_of(page: Page) -> View:
    return View(**page.evaluate(
        "({start: view.from, end: view.to, gutter, width, lane: LANE, scrolled: scroller.scrollTop,"
        " height: bars.clientHeight})"
    ))  # fmt: skip


Colour = tuple[int, int, int]


def seen_at(page: Page, heights: list[int]) -> list[list[Colour]]:
    """Return the colours of all pixels at those heights of the lanes, from left to right."""
    packed = page.evaluate(
        """heights => heights.map((y) => {
          const ratio = devicePixelRatio;
          const line = bars.getContext("2d").getImageData(0, y * ratio, bars.width, 1).data;
          return Array.from({length: width}, (_, x) => {
            const [red, green, blue] = line.slice(4 * x * ratio, 4 * x * ratio + 3);
            return red << 16 | green << 8 | blue;
          });
        })""",
        heights,
    )
    return [[(colour >> 16, colour >> 8 & 255, colour & 255) for colour in line] for line in packed]


def colours_of(page: Page) -> dict[str, Colour]:
    """Return the colours of the outcomes and of the background, as the style sheet has them."""
    parsed = page.evaluate("Object.fromEntries([...outcomes, 'panel', 'stripe'].map((name) => [name, colours[name]]))")
    return {name: tuple(bytes.fromhex(colour.removeprefix("#"))) for name, colour in parsed.items()}  # type: ignore[misc]


def shows(colour: Colour, outcome: str, colours: dict[str, Colour]) -> bool:
    """Return whether a pixel shows an outcome; a success may be paler, the less of the pixel it took."""
    if outcome != "succeeded":
        return colour == colours[outcome]
    least = 0.44  # of its own colour; the rest is what is below or beside it
    rest = [(seen - least * own) / (1 - least) for seen, own in zip(colour, colours[outcome], strict=True)]
    lowest, highest = ([pick(each) for each in zip(*colours.values(), strict=True)] for pick in (min, max))
    return all(low - 3 <= part <= high + 3 for low, part, high in zip(lowest, rest, highest, strict=True))


def check(page: Page, lanes: list[list[Bar]], name: str = "") -> int:
    """Compare each pixel of the visible lanes with the records; return how many were compared."""
    view, colours = view_of(page), colours_of(page)
    ground = {colours["panel"], colours["stripe"]}
    compared = 0
    visible = list(view.lanes(lanes))
    for (y, bars), colour in zip(visible, seen_at(page, [y for y, _ in visible]), strict=True):
        for pixel, outcomes in wanted(bars, view).items():
            about = f"{name}: pixel {pixel} at height {y}, {view}: {colour[pixel]}, not {outcomes or 'empty'}"
            if outcomes:
                assert colour[pixel] not in ground, about
                assert any(shows(colour[pixel], outcome, colours) for outcome in outcomes), about
            else:
                assert colour[pixel] in ground, about
            compared += 1
    return compared


def test_what_is_drawn_is_what_was_recorded(show: Show) -> None:
    """Each bar is where its call was, and each shared pixel shows the most important outcome, at every zoom level."""
    for name, records in RUNS.items():
        lanes = lanes_of(records)
        page = show(records)
        compared = check(page, lanes, name)
        for key in ("+", "+", "ArrowRight", "+", "+", "-", "0"):
            press(page, key)
            compared += check(page, lanes, name)
        assert compared > 1000
        page.close()


def test_sharp_screens_show_the_same(show: Show) -> None:
    """If a pixel of the page is four of the screen, bars are in the same places."""
    lanes = lanes_of(RUNS["a mixture"])
    page = show(RUNS["a mixture"], device_scale_factor=2)
    check(page, lanes)
    press(page, "+")
    assert check(page, lanes) > 1000


def test_scrolled_lanes_are_their_own(show: Show) -> None:
    """With more workers than fit, the lanes scrolled to are the ones that are drawn."""
    records = mixed(45, seed=4)
    page = show(records)
    page.focus("#chart")
    for _ in range(3):
        press(page, "ArrowDown")
    assert view_of(page).scrolled > 0
    assert check(page, lanes_of(records)) > 1000


# ------------------------------------------------------------------------------------------------------- the pointer


def point(page: Page, x: float, y: float) -> str:
    """Point at a place in the lanes, and return the text of the tip."""
    box = page.locator("#bars").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.evaluate("() => new Promise(requestAnimationFrame)")
    return told(page)


def told(page: Page) -> str:
    return page.inner_text("#tip") if page.locator("#tip").is_visible() else ""


def number_in(text: str) -> int:
    return int(re.findall(r"^work\((\d+)\)", text)[0])


def test_the_pointer_tells_what_is_drawn_below_it(show: Show) -> None:
    """Over a bar it is that call; over a column, a call with the visible outcome, and how many more there are."""
    for name, records in RUNS.items():
        if "overlap" in name or "same moment" in name:
            continue
        lanes = lanes_of(records)
        page = show(records)
        pointed = sum(point_at_some(page, lanes))
        for _ in range(2):
            press(page, "+")
            pointed += sum(point_at_some(page, lanes))
        assert pointed, name
        page.close()


def point_at_some(page: Page, lanes: list[list[Bar]]) -> Iterator[int]:
    """Point at a few calls of each lane, and compare the tip of each."""
    view = view_of(page)
    for y, bars in view.lanes(lanes):
        for bar in random.Random(7).sample(bars, min(6, len(bars))):
            left, right = bar.edges(view)
            if left < view.gutter + 2 or right > view.width - 2 or min(left % 1, 1 - left % 1) < 1e-6:
                continue
            if bar.is_short(view):
                inside = [other for other in bars if other.is_short(view) and int(other.edges(view)[0]) == int(left)]
                urgent = next(outcome for outcome in URGENT if outcome in {other.outcome for other in inside})
                text = point(page, int(left), y)
                assert number_in(text) in {other.number for other in inside if other.outcome == urgent}
                more = [int(n.replace(",", "")) for n in re.findall(r"and ([\d,]+) more in this pixel", text)]
                assert more == [len(inside) - 1] * (len(inside) > 1)
                yield 1
            elif right - left > 4:
                text = point(page, int((left + right) / 2), y)
                assert number_in(text) == bar.number
                assert "more in this pixel" not in text
                yield 1


def test_where_nothing_is_drawn_nothing_is_told(show: Show) -> None:
    """The pointer finds bars within a few pixels, and nothing in a gap."""
    page = show([call(0, 0.0, 1.0), call(1, 5.0, 0.00001, outcome="failed"), call(2, 9.0, 1.0)])
    view = view_of(page)
    short = int(view.pixel(5.001e6))
    assert number_in(point(page, short + 3, 10)) == 1
    assert number_in(point(page, short - 3, 10)) == 1
    assert point(page, short + 8, 10) == ""
    assert point(page, view.pixel(3e6), 10) == ""


def test_what_is_told_stays_true_when_the_view_moves(show: Show) -> None:
    """Keys and wheel move other bars below a resting pointer, and the tip follows."""
    page = show(RUNS["short and long in turn"])
    view = view_of(page)
    x = view.pixel(7.5e6)
    assert number_in(point(page, x, 10)) == 5
    for _ in range(4):
        press(page, "ArrowRight")  # does not move while everything is shown
    press(page, "+")
    bars = lanes_of(RUNS["short and long in turn"])[0]
    for key in ("ArrowLeft", "ArrowLeft", "+", "ArrowRight", "ArrowRight", "ArrowRight", "-"):
        press(page, key)
        view = view_of(page)
        below = [bar.number for bar in bars if bar.edges(view)[0] <= x <= bar.edges(view)[1] and bar.number % 2]
        assert [number_in(told(page))] == below


def test_a_failure_that_was_found_is_told_at_its_bar(show: Show) -> None:
    """The tip of a failure found with a key moves with its bar, and is hidden while that is out of the window."""
    outcomes = ["succeeded"] * 200 + ["failed"] + ["succeeded"] * 200
    page = show(in_turn([0.2] * 401, outcomes=outcomes))
    press(page, "f")
    assert number_in(told(page)) == 200
    before = page.locator("#tip").bounding_box()
    press(page, "ArrowRight")
    after = page.locator("#tip").bounding_box()
    assert before is not None
    assert after is not None
    assert after["x"] < before["x"] - 50
    for _ in range(8):
        press(page, "ArrowRight")
    assert told(page) == ""
    press(page, "0")
    assert number_in(told(page)) == 200
    page.keyboard.press("Escape")
    page.wait_for_function("() => tip.hidden")
