"""Resources, devices, and what calls have used, on the page in a real browser."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from amltk.journal import Kind, Writer
from amltk.journal.live.status import write_status
from amltk.web.report import write_report
from tests.helpers.browser import resize
from tests.helpers.page_server import page_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.helpers.browser import Window

pytestmark = pytest.mark.integration

GUARD = 60_000
"""The timeout for waits, in milliseconds."""


def write(writer: Writer) -> None:
    """Four calls that have ended, and two that run."""
    for call in range(6):
        at = 1_790_000_000.0 + call
        writer.add(Kind.SUBMISSION, {"task": "train", "arguments": f"({call})"}, call=call, at=at)
        if call < 4:
            ran: dict[str, Any] = {"began": at, "duration": 2.5, "host": "node", "pid": 40 + call}
            used = {"cpu": 1.5 + call, "memory": (4 - call) * 10**9}
            returned = {"numbers": {"epochs": 10.0, "loss": 0.5}, "devices": [f"gpu {call % 2}"]}
            writer.add(Kind.RESULT, ran | used | returned, call=call, at=at + 2.5)
    running = [{"call": 4 + n, "began": 1.79e9, "pid": 40 + n, "devices": [f"gpu {n}"]} for n in range(2)]
    status = {
        "time": 1.79e9,
        "pid": os.getpid(),
        "running": running,
        "workers": 2,
        "pools": [["gpu", 2, 2], ["memory", 8e9, 60e9]],
        "waiting": {"calls": 5, "pools": {"gpu": 3}, "dependencies": 2},
    }
    writer.flush()
    write_status(writer.folder, status)


def test_a_running_experiment_shows_resources_and_devices(tmp_path: Path, open_window: Callable[..., Window]) -> None:
    """In the head what is in use and what is waited for, and of each call which device it has; on a phone as well."""
    folder = tmp_path / "search"
    with Writer(folder) as writer:
        writer.add(Kind.SESSION, {"program": ["search.py"], "host": "node", "pid": 1}, at=1_790_000_000.0)
        write(writer)
        with page_server(folder) as server:
            page = open_window(server=server.link, viewport={"width": 1280, "height": 900}).page
            page.goto(server.link)
            told = page.locator(".hero .pools")
            expect(told).to_have_text("gpu 2/2 · memory 8 GB/60 GB · waiting 5 (3 gpu, 2 dependencies)", timeout=GUARD)
            expect(page.locator(".card.running")).to_contain_text("gpu 1", timeout=GUARD)
            expect(page.locator(".card.running header")).to_contain_text("2 on 2 workers", timeout=GUARD)
            resize(page, 360, 740)
            page.close()


def test_what_calls_have_used_is_in_the_table(tmp_path: Path, open_window: Callable[..., Window]) -> None:
    """The table has columns for it that it can be sorted by, and a call says it, with its devices."""
    with Writer(tmp_path / "search") as writer:
        write(writer)
    report = tmp_path / "report.html"
    write_report([tmp_path / "search"], report)
    page = open_window(viewport={"width": 1280, "height": 900}).open(report)
    page.get_by_role("button", name="Memory").click()
    expect(page.locator(".calls tbody tr td.memory").first).to_have_text("4 GB", timeout=GUARD)
    page.get_by_role("button", name="CPU time").click()
    expect(page.locator(".calls tbody tr td.cpu").first).to_have_text("4.5 s", timeout=GUARD)
    page.locator(".calls [data-key=call-0]").click()  # the first one with the best loss, of which a report has all
    page.wait_for_selector("dialog[open] .facts")
    told = page.locator("dialog .facts").first.inner_text().splitlines()
    facts = dict(zip(told[::2], told[1::2], strict=False))
    assert (facts["Most memory"], facts["CPU time"], facts["Devices"]) == ("4 GB", "1.5 s", "gpu 0")


def test_what_is_not_measured_takes_no_room(tmp_path: Path, open_window: Callable[..., Window]) -> None:
    """Calls of threads have no such columns."""
    with Writer(tmp_path / "search") as writer:
        writer.add(Kind.SUBMISSION, {"task": "train", "arguments": "()"}, call=0)
        writer.add(Kind.RESULT, {"number": 1.0}, call=0)
    report = tmp_path / "report.html"
    write_report([tmp_path / "search"], report)
    page = open_window().open(report)
    expect(page.locator(".calls tbody tr")).to_have_count(1, timeout=GUARD)
    assert page.locator(".calls th").count() == 7


def test_the_number_that_a_search_is_about_is_shown_first(tmp_path: Path, open_window: Callable[..., Window]) -> None:
    """Of several numbers that calls return, a loss or a score; any other one can be chosen."""
    with Writer(tmp_path / "search") as writer:
        write(writer)
    report = tmp_path / "report.html"
    write_report([tmp_path / "search"], report)
    page = open_window().open(report)
    expect(page.locator(".series select")).to_have_value("train\nloss", timeout=GUARD)
    page.locator(".series select").select_option(label="epochs")
    assert page.locator(".best strong").inner_text() == "10"
