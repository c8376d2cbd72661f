"""Have mypy and pyright look at the programs of README, documentation and examples, as strictly as users have them look.

Both are strict but for what such programs leave out, so that they are short: annotations of their own functions and
containers. Nothing is run. `python tests/typing/programs.py` prints what is wrong, and ends with 1 then.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.docs.fences import PAGES, README, blocks  # noqa: E402

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

MYPY = (
    "--strict", "--allow-untyped-defs", "--allow-incomplete-defs", "--allow-untyped-calls", "--allow-any-generics",
    "--allow-untyped-decorators", "--disable-error-code=var-annotated", "--no-warn-unreachable", "--no-error-summary",
)  # fmt: skip
"""Strict, but for annotations that are left out."""

PYRIGHT = {
    "typeCheckingMode": "strict",
    "pythonVersion": "3.11",
    **dict.fromkeys(
        [
            "reportMissingParameterType", "reportMissingTypeArgument", "reportMissingTypeStubs", "reportMissingImports",
            "reportMissingModuleSource", "reportUnknownParameterType", "reportUnknownArgumentType",
            "reportUnknownVariableType", "reportUnknownMemberType", "reportUnknownLambdaType",
            "reportUntypedFunctionDecorator", "reportUntypedBaseClass", "reportUnusedFunction", "reportUnusedVariable",
        ],
        False,
    ),
}  # fmt: skip

ON_PURPOSE = (
    # Where, what both say, and why it stays.
    ("docs/guide/errors.md", r"'ignore'|\"ignore\"|on_exception", "shows what is refused"),
    ("docs/guide/errors.md", r"Subscriber|No overloads|Function accepts too (few|many)", "shows a callback that fails"),
)


def write_programs(folder: Path) -> dict[str, str]:
    """Write each program into a file of its own; by the name of the file: where it comes from."""
    parts: dict[str, list[str]] = defaultdict(list)
    origin: dict[str, str] = {}
    for page in (README, *PAGES):
        for block in blocks(page):
            if not block.info.startswith("python") or block.not_run or "examples/" in block.info:
                continue
            session = re.search(r'session="([^"]+)"', block.info)
            name = re.sub(r"\W", "_", f"{page.stem}_{session[1]}" if session else block.name) + ".py"
            parts[name].append(block.body)
            origin.setdefault(name, block.name)
    for example in EXAMPLES:
        name = f"example_{example.name}"
        parts[name].append(example.read_text())
        origin[name] = str(example.relative_to(ROOT))
    for name, bodies in parts.items():
        (folder / name).write_text("\n".join(bodies))
    return origin


def of_mypy(folder: Path) -> list[tuple[str, int, str]]:
    """What mypy says: file, line and message."""
    files = sorted(map(str, folder.glob("*.py")))
    command = [sys.executable, "-m", "mypy", *MYPY, "--cache-dir", str(ROOT / ".mypy_cache/programs"), *files]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = re.findall(r"^(\S+?):(\d+): error: (.*)$", told.stdout, re.MULTILINE)
    assert found or not told.returncode, told.stdout + told.stderr
    return [(Path(file).name, int(line), message) for file, line, message in found]


def of_pyright(folder: Path) -> list[tuple[str, int, str]]:
    """What pyright says, likewise."""
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT | {"extraPaths": [str(ROOT / "src")]}))
    pyright = Path(sys.executable).with_name("pyright")
    command = [pyright, "--outputjson", "--pythonpath", sys.executable, "--project", folder]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return [
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1, one["message"].replace("\n", " "))
        for one in json.loads(told.stdout)["generalDiagnostics"]
        if one["severity"] == "error"
    ]


def is_on_purpose(page: str, message: str) -> bool:
    """Whether a page says so on purpose."""
    return any(page.startswith(where) and re.search(what, message) for where, what, _ in ON_PURPOSE)


def check() -> int:
    """Print what is wrong; how much that is."""
    with tempfile.TemporaryDirectory(prefix="amltk-programs-") as temporary:
        folder = Path(temporary)
        origin = write_programs(folder)
        wrong: Counter[str] = Counter()
        for checker, look in (("mypy", of_mypy), ("pyright", of_pyright)):
            for name, line, message in look(folder):
                if not is_on_purpose(origin[name], message):
                    wrong[checker] += 1
                    print(f"{origin[name]}, line {line} of the program: {checker}: {message}")
        print(f"{len(origin)} programs: " + (f"wrong: {dict(wrong)}" if wrong else "mypy and pyright agree with all"))
        return wrong.total()


if __name__ == "__main__":
    os.environ.setdefault("PYRIGHT_PYTHON_IGNORE_WARNINGS", "1")
    sys.exit(check() > 0)
