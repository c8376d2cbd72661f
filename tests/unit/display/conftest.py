"""An environment without rich."""

from __future__ import annotations

import sys

import pytest

import amltk.display


@pytest.fixture
def no_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `import rich` fail, as if it were not installed."""
    monkeypatch.setattr(amltk, "display", amltk.display)  # so that the attribute, too, is restored afterwards
    for name in list(sys.modules):
        if name.partition(".")[0] == "rich" or name.startswith("amltk.display"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
