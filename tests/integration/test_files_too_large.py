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


SHARING = """
    import resource
    from amltk.scheduling import Scheduler

    scheduler = Scheduler.with_processes(1)
    results = []

    @scheduler.on_start
    def share():
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
        try:
            scheduler.share(bytearray(3 << 20))
        except OSError as error:
            print(error)
        scheduler.submit(len, "it goes on")

    scheduler.on_future_result(lambda _, result: print(result))
    scheduler.run(display=False)
"""


@pytest.mark.parametrize("limit", [0, 50_000])
def test_an_object_that_is_too_large_to_be_shared(limit: int) -> None:
    """The limit holds for memory with a descriptor, too: the error says so, and the run goes on."""
    ended = run_script(SHARING.format(limit=limit))
    says = "File too large (limit of the size of files, ulimit -f:"
    assert ended.lines == [f"[Errno 27] an object of 3.0 MiB cannot be shared: {says} {limit} bytes)", "10"]
    assert ended.errors == ""
