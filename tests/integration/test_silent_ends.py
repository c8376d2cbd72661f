"""Processes of a pool that lose what started them end without a word."""

from __future__ import annotations

from tests.helpers.script import run_script


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
