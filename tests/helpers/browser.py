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

OPTIONS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",  # which root cannot have
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run it. Skips the test, with a reason that is seen, where there is none and none can be installed."""
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
    """Run it, and give what opens a window; in the end nothing may have gone wrong in any of them."""
    with chromium() as browser:
        opened: list[Window] = []

        def open_window(**options: Any) -> Window:
            opened.append(Window(browser, **options))
            return opened[-1]

        yield open_window
    problems = [problem for window in opened for problem in window.problems]
    assert not problems, problems


class Window:
    """One page in a browser, which can reach nothing but files, and a server if one is given.

    Args:
        browser: The browser.
        server: How the addresses begin that it may ask for as well; None for none.
        **options: Of Playwright's `new_context`: `viewport`, `color_scheme`, ...

    Attributes:
        page: Playwright's page.
        problems: What went wrong in it: uncaught errors, messages of errors, requests for anything but a file.
    """

    def __init__(self, browser: Browser, *, server: str | None = None, **options: Any) -> None:
        self._reach: tuple[str, ...] = ("file:", "data:", *([server] if server is not None else []))
        context = browser.new_context(**options)
        context.route("**/*", self._route)
        self.problems: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)

    def open(self, file: Path) -> Page:
        """Load a file, until all that it refers to is there."""
        self.page.goto(file.as_uri(), wait_until="load")
        return self.page

    def _route(self, route: Route) -> None:
        if route.request.url.startswith(self._reach):
            route.continue_()
        else:
            self.problems.append(f"asked for {route.request.url}")
            route.abort()
