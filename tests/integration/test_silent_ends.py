"""Processes of a pool that lose what started them end without a word."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.process_pool._io import link
from amltk.scheduling.executors.process_pool._workers import by_fork
from tests.helpers.gate import GUARD
from tests.helpers.script import run_script

if TYPE_CHECKING:
    import pytest


def test_a_supervisor_that_takes_its_time_to_die(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections close before its end is reported, and before its worker is known: that is noticed soon."""
    monkeypatch.setattr(link, "SLOW_START_SECONDS", 10 * GUARD)  # when nothing else would happen
    fork, has_ended = by_fork._fork, by_fork._has_ended
    forks: list[int] = []
    asked: list[int] = []

    def fork_or_die() -> int:
        pid = fork()
        if pid == 0 and not forks:
            os._exit(1)
        forks.append(pid)
        return pid

    def has_ended_later(pid: int) -> bool:
        asked.append(pid)
        return asked.count(pid) > 5 and has_ended(pid)

    monkeypatch.setattr(by_fork, "_fork", fork_or_die)
    monkeypatch.setattr(by_fork, "_has_ended", has_ended_later)
    with ProcessPool(1, "fork") as pool:
        assert pool.submit(abs, -1).result(GUARD) == 1
    assert len(forks) == 2


def test_a_copy_of_a_fork_server_that_is_gone() -> None:
    """A process that reports to a fork server which was killed exits: it never goes on in the server's own code."""
    ended = run_script("""
        import os, socket

        from amltk.scheduling.executors.process_pool._workers.fork_server import warm
        from amltk.scheduling.executors.process_pool._workers.fork_server.messages import Kind

        for number in (1, 2):
            ours, theirs = socket.socketpair()
            theirs.close()
            pid = os.fork()
            if not pid:
                try:
                    warm._fork(ours, Kind.STARTED, number)
                    warm._tell(ours, warm.Message(Kind.READY))
                finally:
                    print("it goes on", flush=True)
                    os._exit(1)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """)
    assert (ended.code, ended.lines, ended.errors) == (0, ["0", "0"], "")
