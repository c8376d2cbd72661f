"""The guard against programs that start themselves recursively."""

from __future__ import annotations

import pytest

from amltk import _guard
from amltk.exceptions import NestingError
from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool


def test_a_run_that_is_too_deep_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight levels below the program neither a scheduler nor a pool runs; the error says what to set."""
    monkeypatch.setenv("AMLTK_DEPTH", "8")
    with pytest.raises(NestingError, match=r"8 levels .*At most 8 .*AMLTK_MAX_DEPTH"):
        Scheduler.with_sequential().run()
    with ProcessPool(1) as pool, pytest.raises(NestingError, match="a process pool was started"):
        pool.submit(abs, -1)


def test_how_deep_runs_may_be_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment variable sets the maximum depth, above or below eight levels."""
    monkeypatch.setenv("AMLTK_DEPTH", "8")
    monkeypatch.setenv("AMLTK_MAX_DEPTH", "9")
    Scheduler.with_sequential().run()
    monkeypatch.setenv("AMLTK_MAX_DEPTH", "1")
    with pytest.raises(NestingError, match="At most 1"):
        Scheduler.with_sequential().run()


def test_a_limit_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid value raises an error that shows it."""
    monkeypatch.setenv("AMLTK_MAX_DEPTH", "deep")
    with pytest.raises(ValueError, match="AMLTK_MAX_DEPTH is 'deep'"):
        _guard.check("anything")


def test_depth_grows_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker records in its environment that it is one level deeper than its parent."""
    monkeypatch.delenv("AMLTK_DEPTH", raising=False)
    _guard.go_deeper()
    _guard.go_deeper()
    assert _guard.os.environ["AMLTK_DEPTH"] == "2"


def test_only_modules_that_are_imported_because_of_the_loading_count() -> None:
    """Code run by a module while it is loaded is rejected; the loader, and code outside modules, is not."""
    loading = _guard.Loading()
    with loading:
        assert loading.module() is None
        found: dict[str, object] = {"loading": loading}
        exec(compile("module = loading.module()", "first.py", "exec"), found | {"__name__": "first"}, found)
    assert found["module"] == "module 'first' (first.py)"
    assert loading.module() is None
