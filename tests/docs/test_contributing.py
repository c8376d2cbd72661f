"""CONTRIBUTING says what the tools enforce."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_layers_are_those_that_are_enforced() -> None:
    """The diagram of the layers is import-linter's list, with `amltk.scheduling` expanded in its place."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {contract["id"]: contract.get("layers", []) for contract in contracts}
    enforced: list[str] = []
    for layer in layers["package"]:
        enforced += [f"  {inner}" for inner in layers["scheduling"]] if layer == "scheduling" else [layer]
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (picture,) = re.findall(r"## Layers\n.*?```text\n(.*?)```", text, re.DOTALL)
    assert picture.splitlines() == [re.sub(r"[()]", "", layer) for layer in enforced]
