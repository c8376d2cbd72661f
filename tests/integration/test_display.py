"""The live display where it is really shown: in a notebook kernel."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from tests.helpers.gate import GUARD
from tests.helpers.script import run_script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

CELL = """
import time
from amltk.scheduling import Limiter, Scheduler

def train(x):
    time.sleep(0.1)
    return 1 / (x - 5)

scheduler = Scheduler.with_processes(2)
task = scheduler.task(train, plugins=Limiter(max_calls=20))
scheduler.on_start(lambda: [task.submit(n) for n in range(20)])
task.on_result(every=5)(lambda future, result: print("a result"))
scheduler.run(on_exception="continue").code.name
"""


def execute(cells: list[str], folder: Path) -> list[list[dict[str, Any]]]:
    """Execute cells in a fresh kernel; return each cell's outputs as the notebook keeps them."""
    for module in ("nbclient", "ipykernel"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    names = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR")
    ended = run_script(
        f"""
        import json, nbclient
        from nbformat.v4 import new_code_cell, new_notebook
        notebook = new_notebook(cells=[new_code_cell(cell) for cell in json.loads({json.dumps(json.dumps(cells))})])
        nbclient.NotebookClient(notebook, timeout={GUARD}, kernel_name="python3").execute()
        print(json.dumps([cell.outputs for cell in notebook.cells]))
        """,
        env={name: str(folder / name.lower()) for name in names},
    )
    assert ended.code == 0, ended.errors
    outputs: list[list[dict[str, Any]]] = json.loads(ended.lines[-1])
    return outputs


def test_in_a_notebook_a_run_is_one_output_with_the_final_state(tmp_path: Path) -> None:
    """Each run in a cell is one output, however often it was redrawn, and the notebook keeps the final one."""
    first, second = execute([CELL, CELL], tmp_path)
    for outputs in (first, second):
        pictures = [output for output in outputs if output["output_type"] == "display_data"]
        assert len(pictures) == 1
        text = "".join(ET.fromstring(pictures[0]["data"]["text/html"]).itertext())
        assert "finished" in text
        assert "0 pending · 0 running · 19 done · 1 failed · 0 cancelled" in text
        assert "limiter  calls 20/20" in text
        assert "ZeroDivisionError: division by zero" in text
        printed = "".join(output["text"] for output in outputs if output["output_type"] == "stream")
        assert printed == "a result\n" * 3
        assert outputs[-1]["data"]["text/plain"] == "'EXHAUSTED'"
