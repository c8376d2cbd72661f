"""ImportWatch: a callback after something was imported."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from amltk.scheduling.plugins._support.imports import ImportWatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package whose import imports others, one that fails, and a namespace package."""
    for name, text in {
        "watched/__init__.py": "import watched.inner, watched_beside\nloader = __loader__, __spec__.loader",
        "watched/inner.py": "",
        "watched/later.py": "",
        "watched_beside.py": "",
        "watched_failing.py": "import watched_beside\n1 / 0",
        "watched_space/module.py": "",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.startswith("watched")]:
        del sys.modules[name]


def loaded() -> list[str]:
    return sorted(name for name in sys.modules if name.startswith("watched"))


@pytest.mark.usefixtures("modules")
def test_told_once_for_all_that_was_imported() -> None:
    """The callback runs when the outermost import has ended, but not if the module was already loaded."""
    told: list[list[str]] = []
    finders = list(sys.meta_path)
    with ImportWatch(lambda: told.append(loaded())):
        importlib.import_module("watched")
        everything = ["watched", "watched.inner", "watched_beside"]
        assert told == [everything]
        importlib.import_module("watched")
        assert told == [everything]
        importlib.import_module("watched.later")
        assert told == [everything, sorted([*everything, "watched.later"])]
        importlib.import_module("watched_space.module")
        assert told[2:] == [loaded()]
    assert sys.meta_path == finders
    importlib.reload(sys.modules["watched"])
    assert len(told) == 3


@pytest.mark.usefixtures("modules")
def test_no_trace_is_left() -> None:
    """A module has its own loader, even while it is executing."""
    with ImportWatch(lambda: None), ImportWatch(lambda: None):
        watched = importlib.import_module("watched")
    for loader in (watched.__loader__, watched.__spec__.loader, *watched.loader):
        assert type(loader).__module__.startswith(("_frozen_importlib", "importlib", "_pytest"))


@pytest.mark.usefixtures("modules")
def test_an_import_that_fails() -> None:
    """The callback also runs after a failing import, which may have imported others, but not for a missing module."""
    told: list[list[str]] = []
    with ImportWatch(lambda: told.append(loaded())):
        with pytest.raises(ZeroDivisionError):
            importlib.import_module("watched_failing")
        with pytest.raises(ModuleNotFoundError, match="watched_nowhere"):
            importlib.import_module("watched_nowhere")
    assert [names for names in told if "watched_beside" in names] == told
    assert len(told) == 1


@pytest.mark.usefixtures("modules")
def test_imports_of_other_threads() -> None:
    """The callback runs in the importing thread."""
    told: list[int] = []
    with ImportWatch(lambda: told.append(threading.get_ident())):
        thread = threading.Thread(target=importlib.import_module, args=("watched",))
        thread.start()
        thread.join()
    assert told == [thread.ident]
