"""Build a copy of this documentation with a page of yours in it: `python docs/with_page.py PAGE FOLDER`.

The page is built strictly and as it is, next to those of the site: its programs run, its `:::` directives show docstrings
of this package, its links may lead to the reference. Nothing of the working tree is changed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
USED = ("mkdocs.yml", "docs", "src", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "examples")
HOME = "  - Home: index.md\n"


def copy_with(page: Path, copy: Path) -> None:
    """Fill a folder with what a build of the site reads, and with the page, which comes after the home page."""
    for name in USED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    if (copy / "docs" / page.name).exists():
        raise SystemExit(f"error: the site has a page {page.name} already; give yours another name")
    shutil.copy(page, copy / "docs" / page.name)
    config = copy / "mkdocs.yml"
    text = config.read_text()
    assert text.count(HOME) == 1, "mkdocs.yml lists the home page in another way"
    config.write_text(text.replace(HOME, f"{HOME}  - {page.name}\n"))


def build(page: Path, site: Path) -> int:
    """Build the site with the page, and return the exit code of the build."""
    with tempfile.TemporaryDirectory(prefix="amltk-docs-") as folder:
        copy = Path(folder)
        copy_with(page, copy)
        command = [sys.executable, "-W", "error", "-m", "mkdocs", "build", "--strict", "--site-dir", str(site.resolve())]
        environment = os.environ | {"PYTHONPATH": str(copy / "src"), "NO_MKDOCS_2_WARNING": "1"}
        return subprocess.run(command, cwd=copy, env=environment, check=False).returncode


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("page", type=Path, help="a Markdown file")
    parser.add_argument("site", type=Path, help="where the built site goes")
    given = parser.parse_args()
    if not given.page.is_file():
        parser.error(f"{given.page}: there is no such file")
    return build(given.page, given.site)


if __name__ == "__main__":
    sys.exit(main())
