"""Run mypy and pyright over the programs of README, documentation and examples, as strictly as users do.

Both are strict, except that short programs may omit annotations of their own functions and containers. Nothing is
run. `python tests/typing/programs.py` prints the errors, and exits with 1 if there are any.
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
    "--allow-untyped-decorators", "--no-warn-unreachable", "--no-error-summary",
    "--disable-error-code=var-annotated", "--disable-error-code=has-type",  # an empty list without an element type
    "--disable-error-code=import-untyped",
)  # fmt: skip
"""Strict, except for omitted annotations."""

PYRIGHT = {
    "typeCheckingMode": "strict",
    "pythonVersion": "3.11",
    **dict.fromkeys(
        [
            "reportMissingParameterType", "reportMissingTypeArgument", "reportMissingTypeStubs", "reportMissingImports",
            "reportMissingModuleSource", "reportUnknownParameterType", "reportUnknownArgumentType",
            "reportUnknownVariableType", "reportUnknownMemberType", "reportUnknownLambdaType",
            "reportUntypedFunctionDecorator", "reportUntypedBaseClass", "reportUnusedFunction", "reportUnusedVariable",
            # Errors within the programs themselves, unrelated to this package.
            "reportPossiblyUnboundVariable", "reportConstantRedefinition", "reportPrivateUsage", "reportDeprecated",
        ],
        False,
    ),
}  # fmt: skip

AS_MEANT = (
    # Where, a checker's message, and why it is accepted.
    ("", r'(parameter|argument) "mod"', "of a builtin that has several signatures, checkers take the first"),
    ("docs/guide/errors.md", r"'ignore'|\"ignore\"", "shows what is refused"),
    (
        "docs/guide/errors.md",
        r"Callable\[\[Any\], Any\]|No overloads|positional",
        "shows a callback of too little",
    ),
    ("docs/guide/running.md", r'"rows"', "shows a callback that fails"),
    ("docs/guide/debugging.md", r'"setStream"', "a hidden line, for the page: all handlers there have it"),
    ("docs/guide/monitor.md", r'"savefig"', "a hidden line, for the page: of matplotlib"),
    ("docs/guide/libraries.md", r"experiment_id", "of MLflow"),
    (
        "docs/tutorial.md",
        r"lambda|Expected 1 positional argument|print\(",
        "a hidden line, for the page: its print",
    ),
    ("docs/tutorial.md", r"SupportsAbs", "computes what ends its process beside what does not"),
    ("examples/demo.py", r'error_score|"ask"|sorted|SupportsDunder', "of scikit-learn and Optuna"),
)


def write_programs(folder: Path) -> dict[str, str]:
    """Write each program to its own file; return the origin of each by file name."""
    parts: dict[str, list[str]] = defaultdict(list)
    origin: dict[str, str] = {}
    for page in (README, *PAGES):
        for block in blocks(page):
            if not block.info.startswith("python") or block.not_run or "examples/" in block.info + block.body:
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
    """What mypy reports: file, line and message."""
    files = sorted(map(str, folder.glob("*.py")))
    command = [sys.executable, "-m", "mypy", *MYPY, "--cache-dir", str(ROOT / ".mypy_cache/programs"), *files]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = re.findall(r"^(\S+?):(\d+): error: (.*)$", told.stdout, re.MULTILINE)
    assert found or not told.returncode, told.stdout + told.stderr
    return [(Path(file).name, int(line), message) for file, line, message in found]


def of_pyright(folder: Path) -> list[tuple[str, int, str]]:
    """What pyright reports, in the same form."""
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT | {"extraPaths": [str(ROOT / "src")]}))
    pyright = Path(sys.executable).with_name("pyright")
    command: list[str | Path] = [pyright, "--outputjson", "--pythonpath", sys.executable, "--project", folder]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return [
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1, one["message"].replace("\n", " "))
        for one in json.loads(told.stdout)["generalDiagnostics"]
        if one["severity"] == "error"
    ]


def meant_by(program: str, message: str) -> set[tuple[str, str, str]]:
    """The entries of `AS_MEANT` that accept it."""
    return {entry for entry in AS_MEANT if program.startswith(entry[0]) and re.search(entry[1], message)}


def check() -> int:
    """Print the errors and return their number."""
    with tempfile.TemporaryDirectory(prefix="amltk-programs-") as temporary:
        folder = Path(temporary)
        origin = write_programs(folder)
        wrong: Counter[str] = Counter()
        needed: set[tuple[str, str, str]] = set()
        for checker, look in (("mypy", of_mypy), ("pyright", of_pyright)):
            for name, line, message in look(folder):
                needed |= (meant := meant_by(origin[name], message))
                if not meant:
                    wrong[checker] += 1
                    print(f"{origin[name]}, line {line} of the program: {checker}: {message}")  # noqa: T201
        for entry in set(AS_MEANT) - needed:
            wrong["AS_MEANT"] += 1
            print(f"{entry} is not needed any more")  # noqa: T201
        what = f"wrong: {dict(wrong)}" if wrong else "mypy and pyright agree with all"
        print(f"{len(origin)} programs: {what}")  # noqa: T201
        return wrong.total()


if __name__ == "__main__":
    os.environ.setdefault("PYRIGHT_PYTHON_IGNORE_WARNINGS", "1")
    sys.exit(check() > 0)
