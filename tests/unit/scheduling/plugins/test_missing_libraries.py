"""Bridges to libraries that are not installed."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from amltk.exceptions import MissingExtraError
from amltk.scheduling import plugins


@pytest.mark.parametrize(
    ("library", "extra", "make"),
    [
        ("threadpoolctl", "plugins", lambda: plugins.ThreadPoolCTLPlugin(1)),
        ("pynisher", "plugins", lambda: plugins.PynisherPlugin(walltime_limit=1)),
        ("codecarbon", "plugins", lambda: plugins.EmissionsTrackerPlugin()),
        ("mlflow", "mlflow", lambda: plugins.MLflowPlugin("trials")),
        ("wandb", "wandb", lambda: plugins.WandbPlugin(project="trials")),
    ],
)
def test_the_pip_command_is_told(monkeypatch: pytest.MonkeyPatch, library: str, extra: str, make: Any) -> None:
    """Without its library a plugin cannot be created; the error says how to install it."""
    monkeypatch.setitem(sys.modules, library, None)  # as Python marks modules that cannot be imported
    with pytest.raises(MissingExtraError) as caught:
        make()
    assert str(caught.value) == f"this needs '{library}': pip install 'amltk[{extra}]'"
