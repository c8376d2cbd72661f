"""The error of a changed program says what is different in words that need no knowledge of the journal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import JournalMismatchError
from amltk.scheduling import Limiter, Retry, Scheduler
from amltk.scheduling._journal.options import Journal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def half(x: int) -> float:
    if x < 0:
        raise ValueError(x)
    return x / 2


def search(folder: Path, xs: Sequence[int], plugins: Sequence[Any] = (), scheduler: Scheduler | None = None) -> None:
    scheduler = scheduler or Scheduler.with_sequential()
    task = scheduler.task(half, plugins=plugins)
    scheduler.on_start(lambda: [task.submit(x) for x in xs])
    scheduler.run(journal=folder, on_exception="continue", display=False)


def test_a_call_that_is_missing(tmp_path: Path) -> None:
    """The call that the program does not submit any more is shown as it was written."""
    search(tmp_path, [1, 2, 3])
    with pytest.raises(
        JournalMismatchError, match=r"Recorded: call 2 is half\(3\), and has ended. Now: it was not sub"
    ):
        search(tmp_path, [1, 2])


@pytest.mark.parametrize("plugins", [[], [Retry(attempts=2, wait=0)]])
def test_another_retry(tmp_path: Path, plugins: list[Any]) -> None:
    """Without its `Retry`, or with one of fewer attempts, it is another program: the error speaks of plugins."""
    search(tmp_path, [1, -2], [Retry(attempts=3, wait=0)])
    expected = r"Recorded: (call \d ends, which a plugin \(Retry.*|timer 1 \(0 is .* such as Retry\) has fired)\. Now: "
    with pytest.raises(JournalMismatchError, match=expected) as caught:
        search(tmp_path, [1, -2], plugins)
    assert re.search("a plugin that was added, removed or changed", str(caught.value))


def test_the_same_scheduler_once_more(tmp_path: Path) -> None:
    """A plugin counts over all runs of its scheduler, so that the second run is another program."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(half, plugins=Limiter(max_calls=1))
    scheduler.on_start(lambda: task.submit(1))
    scheduler.run(journal=tmp_path, display=False)
    with pytest.raises(JournalMismatchError, match="a scheduler that has run before"):
        scheduler.run(journal=tmp_path, display=False)


def test_an_empty_path() -> None:
    """An empty text is no folder: it would be the current one."""
    with pytest.raises(ValueError, match=r"folder='': must be the path of a folder; '.' is the current one"):
        Journal("")
