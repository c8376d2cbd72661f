"""The built documentation: the user's page builds in strict mode, and all pages work in a browser."""

from __future__ import annotations

import html
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs.fences import ROOT
from tests.docs.site import USERS_PAGE, SiteWindow, builder
from tests.helpers.browser import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    """The whole site, including the user's page."""
    with tempfile.TemporaryDirectory(prefix="amltk-site-") as folder:
        builder().build(Path(folder), USERS_PAGE)
        yield Path(folder)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The folder of a site with one empty page, in place of the real one."""
    folder = tmp_path / "small"
    (folder / "docs").mkdir(parents=True)
    (folder / "docs/index.md").write_text("# Home\n")
    for name in ("python.txt", "style.css"):
        shutil.copy(ROOT / "docs" / name, folder / "docs")
    config = (ROOT / "mkdocs.yml").read_text()
    (folder / "mkdocs.yml").write_text(re.sub(r"(?ms)^nav:\n.*?\n\n", f"nav:\n{builder().HOME}\n", config))
    return folder


def build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = builder()
    monkeypatch.setattr(module, "ROOT", folder)
    module.build(folder / "site")


def text_in(source: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", source)).strip()


def text_of(page: Path) -> str:
    return text_in(page.read_text())


def test_a_page_of_nothing_wrong_is_built(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small site of the next tests builds without errors."""
    build(small, monkeypatch)
    assert "Home" in text_of(small / "site/index.html")


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param('```python exec="true"\n1 / 0\n```\n', id="a program that raises"),
        pytest.param('```python exec="true"\nimport warnings; warnings.warn("!")\n```\n', id="a program that warns"),
        pytest.param('```python exec="true" source="none"\nprint()\n```\n', id="an option that is none"),
        pytest.param("[nowhere](nowhere.md)\n", id="a link to no page"),
        pytest.param("[nowhere](#nowhere)\n", id="a link to no heading"),
        pytest.param("[nowhere][amltk.nowhere]\n", id="a reference to nothing"),
        pytest.param("::: amltk.nowhere\n", id="a docstring of nothing"),
    ],
)
def test_what_is_wrong_with_a_page_fails_the_build(wrong: str, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing program or a broken link fails the build."""
    (small / "docs/index.md").write_text(f"# Home\n\n{wrong}")
    with pytest.raises(SystemExit) as ended:
        build(small, monkeypatch)
    assert ended.value.code not in {0, None}


def test_the_page_of_the_user_is_built_as_it_is(site: Path) -> None:
    """The page's programs have run, directives show docstrings, tabs are tabs, and references link to the reference."""
    page = site / "scheduler/index.html"
    shown, source = text_of(page), page.read_text()
    assert "Result: 2" in shown
    assert "Ending now!" in shown
    assert shown.count("╭─ Scheduler") == 3
    assert "markdown-exec: hide" not in shown
    assert ":::" not in shown
    assert "The run has begun. Always the first event" in shown
    assert source.count('class="tabbed-set') == 4
    assert 'href="../reference/scheduler/#amltk.scheduling.scheduler.Scheduler.run"' in source


def test_every_program_shows_an_output(site: Path) -> None:
    """No program is followed by an empty box."""
    outputs = re.compile(r'<div class="result">(.*?)</div>', re.DOTALL)
    shown = {page: outputs.findall(page.read_text()) for page in site.rglob("*.html")}
    assert sum(map(len, shown.values())) > 30
    assert [page for page, found in shown.items() if not all(map(text_in, found))] == []


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])  # neither depends on the other
def test_every_page_fits_a_screen_and_asks_nobody(site: Path, browser: Browser, width: int, scheme: str) -> None:
    """No page is wider than the screen, logs an error to the console, or needs anything from another server."""
    window = SiteWindow(browser, site, viewport={"width": width, "height": 900}, color_scheme=scheme)
    too_wide = []
    for page in sorted(site.rglob("index.html")):
        path = str(page.parent.relative_to(site)).removeprefix(".")
        shown = window.visit(f"{path}/" if path else "")
        shown.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        if shown.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            too_wide.append(path)
        assert shown.evaluate("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]
    assert too_wide == []
    assert window.problems == []


def test_the_search_finds_a_page(site: Path, browser: Browser) -> None:
    """The search works without a server: it finds a method in the reference."""
    window = SiteWindow(browser, site, viewport={"width": 1440, "height": 900})
    page = window.visit("")
    page.get_by_placeholder("Search").click()
    page.keyboard.type("call_later")
    page.locator(".md-search-result__link").first.wait_for()
    assert page.locator(".md-search-result__link[href*='reference/scheduler']").count() >= 1
    assert window.problems == []


SOUGHT = {
    "CUDA": "guide/gpus",
    "resume": "guide/database",
    "Optuna": "guide/optuna",
    "tqdm": "guide/other_tools",
    "n_jobs": "guide/other_tools",
    "FastAPI": "guide/",
    "dependency": "guide/pipelines",
    "joblib": "guide/other_tools",
    "Ctrl-C": "guide/database",
}
"""Search terms of users of other tools, and a page that covers each."""


def test_the_search_finds_what_newcomers_look_for(site: Path, browser: Browser) -> None:
    """The terms of other tools lead to the pages about their counterparts here."""
    window = SiteWindow(browser, site, viewport={"width": 1440, "height": 900})
    for word, wanted in SOUGHT.items():
        page = window.visit("")
        page.get_by_placeholder("Search").click()
        page.keyboard.type(word)
        page.locator(".md-search-result__link").first.wait_for()
        assert page.locator(f".md-search-result__link[href*='{wanted}']").count() >= 1, word
    assert window.problems == []


def test_one_can_read_on_from_page_to_page(site: Path) -> None:
    """From the home page, the "next" links lead through all pages, and the "previous" links lead back."""
    link = re.compile(r'<a href="([^"]*)" class="md-footer__link md-footer__link--(prev|next)"')
    read = [site / "index.html"]
    while True:
        links = {way: href for href, way in link.findall(read[-1].read_text())}
        if len(read) > 1:
            assert (read[-1].parent / links["prev"] / "index.html").resolve() == read[-2].resolve()
        if "next" not in links:
            break
        read.append((read[-1].parent / links["next"] / "index.html").resolve())
        assert len(read) == len(set(read))
    assert len(read) == len(list(site.rglob("index.html")))
