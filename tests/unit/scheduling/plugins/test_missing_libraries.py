"""Bridges whose library is not installed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import MissingExtraError
from amltk.scheduling import plugins

if TYPE_CHECKING:
    from collections.abc import Callable

BRIDGES: dict[str, tuple[str, Callable[[], Any]]] = {
    "threadpoolctl": ("plugins", lambda: plugins.ThreadPoolCTLPlugin(max_threads=1)),
    "codecarbon": ("plugins", lambda: plugins.EmissionsTrackerPlugin(country_iso_code="DEU")),
    "pynisher": ("plugins", lambda: plugins.PynisherPlugin(walltime_limit=1)),
    "mlflow": ("mlflow", lambda: plugins.MLflowPlugin("tuning")),
    "wandb": ("wandb", lambda: plugins.WandbPlugin(project="tuning")),
}


@pytest.mark.parametrize("library", BRIDGES)
def test_a_missing_library_is_one_line(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making the plugin raises one line, with the pip command; importing it does not."""
    monkeypatch.setitem(sys.modules, library, None)
    extra, make = BRIDGES[library]
    with pytest.raises(MissingExtraError) as caught:
        make()
    assert str(caught.value) == f"this needs {library!r}: pip install 'amltk[{extra}]'"
