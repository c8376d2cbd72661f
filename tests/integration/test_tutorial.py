"""examples/tutorial.ipynb, which newcomers execute cell by cell: unchanged, in a fresh kernel."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.gate import GUARD
from tests.helpers.kernel import environment
from tests.helpers.patches import needs
from tests.helpers.script import run_script

pytestmark = pytest.mark.integration

NOTEBOOK = Path(__file__).parents[2] / "examples/tutorial.ipynb"

Outputs = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    """Return the outputs of each cell by its id, after nbclient has executed all; a cell that raises is an error."""
    needs("nbclient", "ipykernel", "pandas", "matplotlib")
    ended = run_script(
        f"""
        import json, nbclient, nbformat
        notebook = nbformat.read({str(NOTEBOOK)!r}, as_version=4)
        nbclient.NotebookClient(notebook, timeout={2 * GUARD}, kernel_name="python3").execute()
        print(json.dumps({{cell.id: cell.get("outputs", []) for cell in notebook.cells}}))
        """,
        env=environment(tmp_path_factory.mktemp("jupyter")),
    )
    assert ended.code == 0, ended.errors
    (line,) = ended.lines
    cells: Outputs = json.loads(line)
    return cells


def printed(outputs: list[dict[str, Any]]) -> list[str]:
    """Return the lines that a cell printed."""
    return [line for output in outputs for line in output.get("text", "").splitlines()]


def shown(outputs: list[dict[str, Any]], kind: str) -> list[str]:
    """Return what a cell shows of that MIME type."""
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


def test_the_first_calls_are_trained(outputs: Outputs) -> None:
    """Both results are printed, and the value of the cell is how the run ended."""
    assert sorted(re.sub(r"\d\.\d{3}$", "…", line) for line in printed(outputs["first"])) == ["trained: …"] * 2
    assert shown(outputs["first"], "text/plain")[-1] == "ExitState(code=<Code.EXHAUSTED: 3>, exception=None)"


def test_what_fails_and_what_takes_too_long_is_told(outputs: Outputs) -> None:
    """One call diverges, the other hits the limit."""
    assert sorted(line.partition(":")[0] for line in printed(outputs["failure"])) == [
        "ArithmeticError",
        "WallTimeLimitError",
    ]


def test_the_search_goes_through_all_configurations(outputs: Outputs) -> None:
    """All forty end, some of them by a failure; the five best are shown in order, and all of them in a plot."""
    assert printed(outputs["search"]) == ["EXHAUSTED after 40 trials"]
    _, *rows = shown(outputs["table"], "text/plain")[0].splitlines()
    errors = [float(row.split()[-1]) for row in rows]
    assert len(errors) == 5
    assert errors == sorted(errors)
    assert len(shown(outputs["plot"], "image/png")) == 1
    before, after = map(float, re.findall(r"\d\.\d+", printed(outputs["longer"])[0]))
    assert after < before == pytest.approx(errors[0], abs=1e-4)


def test_runs_are_shown_in_one_area_each(outputs: Outputs) -> None:
    """A run shows itself once in the output of its cell, with its end, and nothing else is displayed."""
    for cell in ("first", "failure", "search"):
        kinds = [output["output_type"] for output in outputs[cell]]
        assert kinds.count("display_data") == 1, cell
        assert "finished" in shown(outputs[cell], "text/html")[0], cell
    assert "40 submitted" in re.sub(r"<[^>]*>", "", shown(outputs["search"], "text/html")[0])
    assert "display_data" not in [output["output_type"] for output in outputs["longer"]]


def test_the_scheduler_is_drawn(outputs: Outputs) -> None:
    """As the value of a cell it is a tree in which each event has its count and its callbacks."""
    (tree,) = shown(outputs["tree"], "text/html")
    text = re.sub(r"<[^>]*>", "", tree)
    assert re.search(r"@result +\d+", text)
    assert "launch" in text


def test_the_notebook_is_stored_without_outputs() -> None:
    """The repository contains no outputs, execution counts or editor metadata."""
    notebook = json.loads(NOTEBOOK.read_text())
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
