"""A real browser without a window: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright

from tests.helpers import debian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page, Route

PROGRAM = "/usr/bin/chromium"

PATIENCE_MILLISECONDS = 120_000
"""How long anything in a page may take on a busy machine."""

OPTIONS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",  # not available to root
)


def resize(page: Page, width: int, height: int) -> None:
    """Give the window this size, and wait until the page does not overflow it to the right; else that is an error.

    Charts are drawn anew in one of the next frames.
    """
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start it. Skips the test with a visible reason if it is missing and cannot be installed."""
    why = debian.missing(["chromium"], ["chromium"])
    if why is not None:
        pytest.skip(f"!!! NOT TESTED IN A BROWSER: {why}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=list(OPTIONS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def windows() -> Iterator[Callable[..., Window]]:
    """Start it and yield a function that opens a window; afterwards no window may have had a problem."""
    with chromium() as browser:
        opened: list[Window] = []

        def open_window(**options: Any) -> Window:
            opened.append(Window(browser, **options))
            return opened[-1]

        yield open_window
    problems = [problem for window in opened for problem in window.problems]
    assert not problems, problems


class Window:
    """One page in a browser that can access only files and, if given, a server.

    Args:
        browser: The browser.
        server: The start of the addresses it may also request; None for none.
        **options: Of Playwright's `new_context`: `viewport`, `color_scheme`, ...

    Attributes:
        page: Playwright's page.
        problems: What went wrong in it: uncaught errors, error messages, requests for anything but a file.
    """

    def __init__(self, browser: Browser, *, server: str | None = None, **options: Any) -> None:
        self._reach: tuple[str, ...] = ("file:", "data:", *([server] if server is not None else []))
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        context.route("**/*", self._route)
        self.problems: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)

    def open(self, file: Path) -> Page:
        """Load a file and wait until everything it refers to is loaded."""
        self.page.goto(file.as_uri(), wait_until="load")
        return self.page

    def _route(self, route: Route) -> None:
        if route.request.url.startswith(self._reach):
            route.continue_()
        else:
            self.problems.append(f"asked for {route.request.url}")
            route.abort()
