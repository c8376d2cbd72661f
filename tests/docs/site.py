"""The built documentation, viewed in a browser."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.docs.fences import ROOT
from tests.helpers.browser import Window

if TYPE_CHECKING:
    from types import ModuleType

    from playwright.sync_api import Browser, Page, Route

ADDRESS = "http://docs.invalid/"
"""No server is contacted: requests to this address are answered from the folder."""

USERS_PAGE = ROOT / "tests/data/scheduler.md"


def builder() -> ModuleType:
    """A fresh `docs/build.py`, which is a script outside any package."""
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class SiteWindow(Window):
    """A window that shows the site and has no access to anything else."""

    def __init__(self, browser: Browser, site: Path, **options: Any) -> None:
        self._site = site
        super().__init__(browser, **options)

    def visit(self, path: str) -> Page:
        """Go to a page and wait until everything it refers to is loaded."""
        self.page.goto(ADDRESS + path, wait_until="load")
        return self.page

    def _route(self, route: Route) -> None:
        url = route.request.url.partition("?")[0]
        if not url.startswith(ADDRESS):
            super()._route(route)
            return
        file = self._site / url.removeprefix(ADDRESS)
        route.fulfill(path=file / "index.html" if file.is_dir() else file)
