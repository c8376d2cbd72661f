"""A limit of the size of files (`ulimit -f`): errors name whose file it is, the limit, and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers.script import run_script

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
    import resource
    from amltk.scheduling import Memo, Scheduler

    scheduler = Scheduler.with_sequential()
    task = scheduler.task(bytes, plugins={plugins})
    results = []
    scheduler.on_start(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY)))
    scheduler.on_start(lambda: task.submit(100_000))
    scheduler.on_future_result(lambda _, result: results.append(len(result)))
    try:
        scheduler.run(display=False, journal={journal})
    except Exception as error:
        print(type(error).__name__, error)
"""

SAYS = "cannot be written: File too large (limit of the size of files, ulimit -f: {limit} bytes). Everything"


@pytest.mark.parametrize("limit", [0, 50_000])
@pytest.mark.parametrize("of", ["memo", "journal"])
def test_a_file_that_would_be_too_large_is_said_whose_it_is(tmp_path: Path, of: str, limit: int) -> None:
    """The error speaks of the memo or the journal that the program has given, and of the limit."""
    place = f"{tmp_path}/kept"
    memo = f"Memo({place!r})" if of == "memo" else "()"
    source = PROGRAM.format(plugins=memo, journal=repr(place) if of == "journal" else None, limit=limit)
    (line,) = run_script(source).lines
    assert line.startswith(f"JournalWriteError the {of} {place} {SAYS.format(limit=limit)}")
