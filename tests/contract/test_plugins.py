"""On every executor, plugins, alone and in pairs, change neither the outcomes of calls nor each other's work."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import WorkerLostError
from amltk.scheduling import ExitState, Plugin
from amltk.scheduling._admission.pools import Pools
from amltk.scheduling.plugins import PynisherPlugin
from tests.contract import work
from tests.contract.backends import BACKENDS
from tests.contract.plugins import MEMBERS, THERE_IS, Entry, cannot_talk, combinations_on

if TYPE_CHECKING:
    from pathlib import Path

    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities


class NoteTaker(Plugin):
    """Records which calls it sees start and end; one is placed before the plugins and one after them."""

    def __init__(self, name: str, notes: list[tuple[str, Any, str]]) -> None:
        self.name = name
        self.notes = notes

    def prepare(self, call: Any) -> bool:
        self.notes.append(("begin", call, self.name))
        call.on_end(self.note_end, call)
        return True

    def note_end(self, call: Any) -> None:
        self.notes.append(("end", call, self.name))


def assert_paired(notes: list[tuple[str, Any, str]]) -> None:
    """Assert that every setup for a call has one teardown, in reverse order; a call that is held back starts twice."""
    set_up: dict[Any, list[str]] = defaultdict(list)
    for what, call, name in notes:
        if what == "begin":
            set_up[call].append(name)
        else:
            assert set_up[call].pop() == name
    assert not any(set_up.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of the libraries behind plugins
@pytest.mark.parametrize(
    ("backend", "entries"),
    [
        pytest.param(backend, entries, id=f"{backend}-{'+'.join(map(str, entries))}")
        for backend in BACKENDS
        if backend.name in MEMBERS
        for entries in combinations_on(backend.name)
    ],
    indirect=["backend"],
)
def test_outcomes_with_plugins(
    scheduler: Scheduler,
    capabilities: Capabilities,
    entries: tuple[Entry, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Results, exceptions, lost workers and cancellations are as without plugins; each plugin does its work."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    notes: list[tuple[str, Any, str]] = []
    plugins = [NoteTaker("outer", notes), *(entry.make(tmp_path) for entry in entries), NoteTaker("inner", notes)]
    if any(entry.impossible(capabilities) for entry in entries):
        with pytest.raises(ValueError, match="Use Scheduler"):
            scheduler.task(work.play, plugins=plugins)
        return
    scheduler.pools.named.update(Pools(THERE_IS).named)
    task = scheduler.task(work.play, plugins=plugins)
    outcomes: list[Any] = []

    @scheduler.on_start
    def launch() -> None:
        for act in ("return", "raise", "cancel", "return"):
            task.submit(act)

    @scheduler.on_empty(max_calls=1, when=lambda: capabilities.isolates_crashes)
    def crash() -> None:  # after the others: Dask also loses outcomes that it has not fetched
        task.submit("die")

    @task.on_submitted
    def cancel(future: Any, act: str, **_: Any) -> None:
        if act == "cancel":
            assert future.cancel()

    task.on_result(lambda _, result: outcomes.append(result))
    task.on_exception(lambda _, error: outcomes.append(type(error)))
    task.on_cancelled(lambda _: outcomes.append("cancelled"))
    state = scheduler.run(on_exception="continue", on_cancelled="continue")
    assert state.code is ExitState.Code.EXHAUSTED
    assert_paired(notes)
    if cannot_talk(entries, capabilities):
        assert sorted(map(str, outcomes)) == [str(TypeError)] * 3 + ["cancelled"]
        return
    lost = [outcomes.pop()] if capabilities.isolates_crashes else []
    assert sorted(map(str, outcomes)) == sorted(map(str, ["played", ValueError, "cancelled", "played"]))
    assert all(issubclass(error, WorkerLostError | PynisherPlugin.PynisherException) for error in lost)
    for entry in entries:
        entry.check(task, tmp_path)
