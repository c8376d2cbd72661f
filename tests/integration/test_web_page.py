"""The web page in a real browser: of a run in progress, of one that was killed, and with names that are markup."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

import amltk.journal
from amltk.journal import Kind, Writer
from amltk.journal.folder import Folder
from amltk.journal.live.status import write_status
from amltk.web.report import write_report
from tests.helpers.browser import resize
from tests.helpers.page_server import page_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.helpers.browser import Window

pytestmark = pytest.mark.integration

NAME = "<script>alert(1)</script>"
ARGUMENTS = "('</code><img src=x onerror=alert(2)>', \"&lt;\", x='\\u202e')"
MESSAGE = "<b>bold</b> \x1b[31m{{setup}} ${1} 'quoted'"
GUARD = 60_000
"""The timeout for waits, in milliseconds."""

SIZES = [(360, 740), (768, 1024), (1440, 900), (2560, 1300)]


def add(writer: Writer, call: int, *, task: str = "train", fails: bool = False, ends: bool = True) -> None:
    """Add a call."""
    at = 1_790_000_000.0 + call
    writer.add(Kind.SUBMISSION, {"task": task, "arguments": f"(lr=0.{call})"}, call=call, at=at)
    ran: dict[str, Any] = {"began": at, "duration": 0.9, "host": "node", "pid": 40 + call % 2}
    if fails:
        traceback = 'Traceback (most recent call last):\n  File "train.py", line 7, in fit\nOSError: no room'
        error = {"type": "OSError", "message": "no room", "traceback": traceback}
        writer.add(Kind.EXCEPTION, ran | error, call=call, at=at + 0.9)
    elif ends:
        writer.add(
            Kind.RESULT, ran | {"numbers": {"loss": 1 / (call + 1), "accuracy": call / 50}}, call=call, at=at + 0.9
        )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of an experiment in which everything that a user can write is markup."""
    folder = tmp_path_factory.mktemp("web")
    with Writer(folder / "<img src=x>") as writer:
        writer.add(Kind.SESSION, {"program": [NAME], "host": NAME, "python": NAME, "pid": 1})
        for call in range(30):
            writer.add(Kind.SUBMISSION, {"task": NAME, "arguments": ARGUMENTS, "place": call}, call=call)
            ran = {"began": 1.79e9 + call, "duration": 1.0, "host": NAME, "pid": call}
            if call % 3:
                writer.add(Kind.RESULT, ran | {"numbers": {NAME: call, "b": -1.5}, "returned": NAME}, call=call)
            else:
                error = {
                    "type": NAME,
                    "message": MESSAGE,
                    "traceback": f'  File "{NAME}", line 1, in {NAME}\n{MESSAGE}',
                }
                writer.add(Kind.EXCEPTION, ran | error, call=call)
        writer.add(Kind.FINISH, {"code": "STOPPED", "reason": NAME})
    (folder / "<img src=x>" / "calls" / "0").mkdir(parents=True)
    (folder / "<img src=x>" / "calls" / "0" / "output.log").write_text(f"{NAME}\n")
    write_report([folder / "<img src=x>"], folder / "report.html")
    return folder / "report.html"


def only_ours(page: Page) -> None:
    """Assert that no element of the page comes from user text."""
    assert page.locator("img").count() == 0
    assert page.evaluate("[...document.scripts].map((script) => script.type)") == ["application/json", ""]
    assert page.locator("#app b b, #app code img, dialog b b").count() == 0


def test_texts_of_users_are_never_markup(hostile: Path, open_window: Callable[..., Window]) -> None:
    """Names, arguments, errors and output with markup and escapes are shown literally; no user script runs."""
    window = open_window(viewport={"width": 1280, "height": 900})
    page = window.open(hostile)
    page.on("dialog", lambda _: window.problems.append("a script of a user has run"))
    assert page.locator("h1").inner_text() == "<img src=x>"
    assert page.locator(".failures b.error").first.inner_text() == NAME
    assert page.locator(".calls td.task code").first.inner_text() == NAME + ARGUMENTS
    only_ours(page)
    page.goto(f"{hostile.as_uri()}#call=0")
    panel = page.locator("dialog")
    assert panel.locator("pre").last.inner_text() == f"{NAME}\n"
    assert NAME in panel.inner_text()
    assert "<b>bold</b> {{setup}} ${1} 'quoted'" in panel.inner_text()
    only_ours(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="show these calls").first.click()
    assert page.locator(".chip").inner_text() == f"error: {NAME} ✕"
    only_ours(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_screen(scheme: str, hostile: Path, open_window: Callable[..., Window]) -> None:
    """From a phone to a large screen nothing overflows, and text has enough contrast in both schemes."""
    window = open_window(color_scheme=scheme)
    page = window.open(hostile)
    for width, height in SIZES:
        resize(page, width, height)
        page.wait_for_selector(".plot svg")
    for name in ("text", "soft", "accent", "done", "failed", "running", "warn"):
        assert contrast(page, name, "panel") >= 4.5, name


def contrast(page: Page, text: str, ground: str) -> float:
    """Return the contrast between two of the page's colours."""
    read = "getComputedStyle(document.documentElement).getPropertyValue('--{}').trim()"
    first, second = (luminance(page.evaluate(read.format(name))) for name in (text, ground))
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)


def luminance(colour: str) -> float:
    """Return the luminance of a colour such as `#12abef`."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_run_that_goes_on(tmp_path: Path, open_window: Callable[..., Window]) -> None:
    """Changes appear without a reload; calls are searched, opened and linked, by keyboard alone."""
    folder = tmp_path / "search"
    with Writer(folder) as writer:
        writer.add(Kind.SESSION, {"program": ["search.py"], "host": "node", "pid": 1}, at=1_790_000_000.0)
        add(writer, 0, ends=False)
        writer.flush()
        status = {"time": 1.79e9, "pid": os.getpid(), "running": [{"call": 0, "began": 1.79e9, "pid": 40}], "total": 60}
        write_status(Folder(folder), status)
        with page_server(folder) as server:
            page = open_window(server=server.link, viewport={"width": 1280, "height": 900}).page
            page.goto(server.link)
            page.wait_for_selector(".pill.running")
            assert "train(lr=0.0)" in page.locator(".card.running").inner_text()
            for call in range(1, 31):
                add(writer, call, fails=call == 5)
            writer.flush()
            expect(page.locator(".much")).to_contain_text("30 of 60", timeout=GUARD)
            assert "50 %" in page.locator(".much").inner_text()
            assert page.locator(".best strong").inner_text() == "0.032258"
            page.locator(".series select").select_option(label="accuracy")
            assert page.get_by_role("button", name="higher is better").is_visible()
            assert page.locator(".best strong").inner_text() == "0.6"
            page.keyboard.press("/")
            page.keyboard.type("no room")
            expect(page.locator(".calls tbody")).to_contain_text("OSError: no room", timeout=GUARD)
            expect(page.locator(".calls tbody tr")).to_have_count(1, timeout=GUARD)
            page.locator(".calls tbody a").focus()
            page.keyboard.press("Enter")
            page.wait_for_selector("dialog[open] pre")
            assert 'File "train.py", line 7, in fit' in page.locator("dialog").inner_text()
            assert page.url == f"{server.link}#call=5"
            page.keyboard.press("Escape")
            assert not page.locator("dialog").is_visible()
            page.goto(f"{server.link}#call=7")
            page.wait_for_selector("dialog[open] .facts")
            assert page.locator("#call-title").inner_text() == "Call 7"
            page.keyboard.press("Escape")
            page.locator(".timeline canvas").focus()
            page.keyboard.press("+")
            expect(page.locator(".timeline header .soft")).to_contain_text("from", timeout=GUARD)
            writer.add(Kind.FINISH, {"code": "STOPPED", "reason": "enough"})
            writer.close()
            page.wait_for_selector(".pill.finished")
            assert "STOPPED, enough" in page.locator(".when").inner_text()
            page.close()


def test_the_end_of_one_call_closes_no_other(hostile: Path, open_window: Callable[..., Window]) -> None:
    """Whoever closes a call and opens another one at once sees that one: the browser tells of the end later."""
    page = open_window().open(hostile)
    page.evaluate("location.hash = '#call=1'")
    for first, second in ((1, 2), (2, 1)):
        page.wait_for_selector(f"dialog[open] >> text=Call {first}")
        page.evaluate("call => { document.querySelector('dialog').close(); location.hash = `#call=${call}`; }", second)
        page.wait_for_selector(f"dialog[open] >> text=Call {second}")
        page.evaluate("new Promise(told => setTimeout(told, 50))")  # what is still to be told comes first
        assert page.locator("#call-title").inner_text() == f"Call {second}"
        assert page.evaluate("location.hash") == f"#call={second}"
    page.keyboard.press("Escape")
    page.wait_for_function("!location.hash.includes('call')")
    assert not page.locator("dialog").is_visible()


def test_a_run_that_was_killed(tmp_path: Path, open_window: Callable[..., Window]) -> None:
    """The page says so, what the run was doing, and what to do; this also holds for a report file."""
    folder = tmp_path / "search"
    with Writer(folder) as writer:
        writer.add(Kind.SESSION, {"program": ["search.py"], "host": "node", "pid": 1}, at=1_790_000_000.0)
        for call in range(4):
            add(writer, call, ends=call < 3)
    write_status(Folder(folder), {"time": 1.79e9, "pid": 1, "running": [{"call": 3, "began": 1.79e9 + 1, "pid": 41}]})
    write_report([folder], tmp_path / "report.html")
    page = open_window(viewport={"width": 1280, "height": 900}).open(tmp_path / "report.html")
    assert "Its process was killed" in page.locator(".when").inner_text()
    assert "Start the program again" in page.locator(".when").inner_text()
    assert "Running when it was killed" in page.locator(".card.running").inner_text()
    assert "train(lr=0.3)" in page.locator(".card.running").inner_text()


def test_a_report_of_several_experiments(tmp_path: Path, open_window: Callable[..., Window]) -> None:
    """One of the experiments is selected, and its best results are drawn together with those of the others."""
    for name in ("first", "second"):
        with Writer(tmp_path / name) as writer:
            writer.add(Kind.SESSION, {}, at=1_790_000_000.0)
            for call in range(20):
                add(writer, call)
    write_report([tmp_path / "first", tmp_path / "second"], tmp_path / "report.html")
    page = open_window(viewport={"width": 1280, "height": 900}).open(tmp_path / "report.html")
    assert page.locator(".plot .other").count() == 1
    page.get_by_role("button", name="second").click()
    assert page.locator("h1").inner_text() == "second"
    assert json.loads(page.evaluate("JSON.stringify(location.hash)")) == "#x=1"
    assert page.locator("nav [aria-pressed=true]").count() == 1


def test_a_notebook_shows_it(tmp_path: Path, open_window: Callable[..., Window]) -> None:
    """`amltk.journal.open(folder)` at the end of a cell shows the page in a frame, in which calls can be opened."""
    with Writer(tmp_path / "search") as writer:
        writer.add(Kind.SESSION, {}, at=1_790_000_000.0)
        for call in range(5):
            add(writer, call, fails=call == 3)
    html = amltk.journal.open(tmp_path / "search")._repr_html_()
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><meta charset=utf-8><h1>Notebook</h1>{html}")
    page = open_window(viewport={"width": 1000, "height": 900}).open(tmp_path / "notebook.html")
    frame = page.frame_locator("iframe")
    assert frame.locator("h1").inner_text() == "search"
    frame.locator(".calls").get_by_role("link", name="3").click()
    expect(frame.locator("dialog .facts").first).to_be_visible(timeout=GUARD)
    frame.get_by_role("button", name="Close").click()
    expect(frame.locator("dialog")).to_be_hidden(timeout=GUARD)
