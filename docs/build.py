"""Build this documentation: `python docs/build.py SITE`, or a copy of it with a page of yours: `... SITE --page PAGE`.

Nothing that is wrong passes: a program on a page that fails or warns, a link that leads nowhere, a block that would be
shown as it is written. A page of yours is built as it is, after the home page: its programs run, its `:::` directives
show docstrings, its links may lead to the reference. Nothing of the working tree is changed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
READ = ("mkdocs.yml", "docs", "src", "examples", "CHANGELOG.md", "CONTRIBUTING.md")
HOME = "  - Home: index.md\n"

# Without --quiet, which hides warnings from --strict. The warning that is let pass is about source="material-block".
MKDOCS = (
    sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning:markdown_exec._internal.rendering",
    "-m", "mkdocs", "build", "--strict",
)  # fmt: skip


def copy_with(page: Path, copy: Path) -> None:
    """Fill a folder with what a build reads, and with the page."""
    for name in READ:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    if (copy / "docs" / page.name).exists():
        sys.exit(f"error: the site has a page {page.name} already; give yours another name")
    shutil.copy(page, copy / "docs" / page.name)
    config = copy / "mkdocs.yml"
    before, home, after = config.read_text().partition(HOME)
    assert home, f"mkdocs.yml has no line {HOME!r}"
    config.write_text(f"{before}{home}  - {page.name}\n{after}")


def left_as_written(site: Path) -> list[Path]:
    """The pages that show a fence or its options: a block that cannot be rendered is taken for text, without a word."""
    return [page for page in site.rglob("*.html") if any(mark in page.read_text() for mark in ("```", "python exec="))]


def build(site: Path, page: Path | None = None) -> None:
    """Build the site, with the page if there is one.

    Raises:
        SystemExit: It could not be built, or something on it is wrong.
    """
    with ExitStack() as stack:
        folder = ROOT
        if page is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amltk-docs-")))
            copy_with(page, folder)
        # Some programs of the environment are needed, such as mpiexec.
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        added = {"PYTHONPATH": str(folder / "src"), "PATH": programs, "NO_MKDOCS_2_WARNING": "1"}
        done = subprocess.run([*MKDOCS, "--site-dir", site.resolve()], cwd=folder, env=os.environ | added, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    if left := left_as_written(site):
        sys.exit(f"error: blocks that could not be rendered, on {', '.join(map(str, left))}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("site", type=Path, help="where the built site goes")
    parser.add_argument("--page", type=Path, help="a Markdown file to build with it")
    given = parser.parse_args()
    if given.page is not None and not given.page.is_file():
        parser.error(f"{given.page}: there is no such file")
    build(given.site, given.page)


if __name__ == "__main__":
    main()
