"""A process that the program forks gets nothing of its pools, and does nothing to them."""

from __future__ import annotations

import sys

import pytest

from tests.helpers.script import run_script

METHODS = ["forkserver", "spawn", "fork"]

PROGRAM = """
    import gc, multiprocessing, os, sys, threading, time
    from amltk.scheduling.executors import ProcessPool

    def wait_for(name):
        while not os.path.exists(name):
            time.sleep(0.005)
        return 7

    def use(pool, future, ended):
        def tell(what, do):
            try:
                print(what, do(), flush=True)
            except BaseException as error:
                print(what, type(error).__name__, flush=True)

        tell("ended", ended.result)
        tell("result", future.result)
        tell("exception", future.exception)
        tell("submit", lambda: pool.submit(abs, -1))
        tell("map", lambda: list(pool.map(abs, [-1])))
        tell("states", lambda: (future.cancel(), future.done(), future.running()))
        tell("asked", lambda: (pool.running_calls(), pool.worker_pids))
        tell("shutdown", lambda: pool.shutdown(cancel_futures=True))
        tell("killed", pool.kill_workers)
        tell("left", lambda: pool.__exit__(None, None, None))
        with ProcessPool(1) as own:
            tell("own", own.submit(abs, -5).result)

    def begin(method):
        global pool, running, waiting, ended
        pool = ProcessPool(1, mp_context=method)
        ended = pool.submit(abs, -3)
        ended.result()
        running = pool.submit(wait_for, "go")
        while not running.running():
            time.sleep(0.005)
        waiting = [pool.submit(abs, -n) for n in range(100)]

    def finish():
        open("go", "x").close()
        print(running.result(), sum(one.result() for one in waiting), pool.submit(abs, -9).result(), flush=True)
        pool.shutdown()
"""

SAID = [
    "ended 3",
    "result RuntimeError",
    "exception RuntimeError",
    "submit RuntimeError",
    "map RuntimeError",
    "states (False, False, False)",
    "asked ([], [])",
    "shutdown None",
    "killed None",
    "left False",
    "own 5",
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["fork", "fork that unwinds", "process", "daemon"])
def test_a_fork_that_uses_the_pool(how: str, method: str) -> None:
    """In the child, operations on the pool raise and nothing hangs; the parent's calls are computed."""
    start = {
        "fork": """
    child = os.fork()
    if not child:
        use(pool, running, ended)
        del pool, running, waiting, ended
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
        """,
        "fork that unwinds": """
    with pool:
        child = os.fork()
        if not child:
            use(pool, running, ended)
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        finish()
        sys.exit()
        """,
        "process": """
    process = multiprocessing.get_context("fork").Process(target=use, args=(pool, running, ended))
    process.start()
    process.join()
    assert process.exitcode == 0
        """,
        "daemon": """
    child = os.fork()
    if not child:
        os.setsid()
        if os.fork():
            os._exit(0)
        use(pool, running, ended)
        open("daemon", "x").close()
        sys.exit(0)
    os.waitpid(child, 0)
    wait_for("daemon")
        """,
    }[how]
    ended = run_script(PROGRAM + f"    begin({method!r})\n" + start + "\n    finish()\n")
    assert ended.lines == [*SAID, "7 4950 9"], ended.errors
    assert ended.code == 0, ended.errors


@pytest.mark.parametrize("method", METHODS)
def test_forks_from_many_places_at_any_time(method: str) -> None:
    """Whatever the pool's thread holds at the time, neither the forks nor the program hang, and no call is lost."""
    ended = run_script(f"""{PROGRAM}
    pool = ProcessPool(2, mp_context={method!r})
    futures = [pool.submit(abs, -n) for n in range(20)]
    for n in range(40):
        futures += [pool.submit(abs, -k) for k in range(20)]
        child = os.fork()
        if not child:
            pool.worker_pids, pool.running_calls(), [future.cancel() for future in futures]
            try:
                pool.submit(abs, -1)
            except RuntimeError:
                pool.shutdown()
                os._exit(17)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
    print(sum(future.result() for future in futures) == 41 * 190)
    pool.shutdown()
    """)
    assert ended.lines == ["True"], ended.errors
    assert ended.code == 0


def test_the_error_says_what_to_do() -> None:
    """The error names the process that owns the pool, and an alternative."""
    ended = run_script(f"""{PROGRAM}
    begin("forkserver")
    child = os.fork()
    if not child:
        for ask in (running.result, lambda: pool.submit(abs, -1)):
            try:
                ask()
            except RuntimeError as error:
                print(str(error).replace(str(os.getppid()), "PARENT"), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    finish()
    """)
    assert ended.lines == [
        "only process PARENT, which forked this one, receives the outcome of this future: "
        + "ask for it there, or submit the call to a ProcessPool created in this process",
        "this ProcessPool is that of process PARENT, which has forked this one: make another one here",
        "7 4950 9",
    ]


@pytest.mark.parametrize("executor", ["with_processes(2)", "with_threads(2)"])
@pytest.mark.parametrize(
    ("leave", "said"),
    [("sys.exit(3)", "SystemExit"), ("1 / 0", "ZeroDivisionError"), ("return", "RuntimeError")],
)
def test_a_callback_that_forks_and_comes_back_in_the_child(leave: str, said: str, executor: str) -> None:
    """The run ends with an error in the child, and continues undisturbed in the parent."""
    ended = run_script(f"""
    import os, sys
    from amltk.scheduling import Scheduler

    scheduler, told, parent = Scheduler.{executor}, [], os.getpid()

    @scheduler.on_start
    def begin():
        for n in range(40):
            scheduler.submit(abs, n)

    @scheduler.on_future_result
    def fork(future, result):
        told.append(result)
        if len(told) == 10:
            child = os.fork()
            if not child:
                {leave}
            told.append(os.waitpid(child, 0) and 0)

    try:
        print(scheduler.run().code.name, sum(told), flush=True)
    except BaseException as error:
        print(type(error).__name__, os.getpid() != parent, flush=True)
    """)
    assert ended.lines == [f"{said} True", "EXHAUSTED 780"], ended.errors
    assert ended.code == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_call_that_forks(method: str) -> None:
    """The call's child closes no descriptor the worker has opened, whatever numbers the pool's had in the program."""
    ended = run_script(f"""
        import os, socket
        from amltk.scheduling.executors import ProcessPool

        def fork():
            opened = [socket.socketpair() for _ in range(20)]  # they take the numbers that are free
            pid = os.fork()
            if pid == 0:
                for pair in opened:
                    for end in pair:
                        os.fstat(end.fileno())
                os._exit(0)
            code = os.waitpid(pid, 0)[1]
            for pair in opened:
                for end in pair:
                    end.close()
            return code

        with ProcessPool(2, {method!r}) as pool:
            print(*[call.result() for call in [pool.submit(fork) for _ in range(4)]])
        """)
    assert (ended.errors, ended.lines) == ("", ["0 0 0 0"])


@pytest.mark.parametrize("leave", ["return", "raise ValueError", "sys.exit(1)"])
@pytest.mark.parametrize("method", METHODS)
def test_an_initializer_that_forks_and_comes_back_in_the_child(leave: str, method: str) -> None:
    """The child is no second worker with the first one's connection: it takes none of its calls, and ends."""
    ended = run_script(f"""
        import os, signal, sys
        from amltk.scheduling.executors import ProcessPool

        children = []

        def initialize():
            children.append(os.fork())
            if not children[0]:
                {leave}

        def work(n):
            return os.getpid(), children[0]

        with ProcessPool(1, {method!r}, initialize) as pool:
            told = {{pool.submit(work, n).result(60) for n in range(200)}}
            print(len(told), pool.submit(os.waitpid, *[told.pop()[1], 0]).result(60)[1])
        """)
    assert ended.lines == ["1 0"], ended.errors


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the descriptors of a process")
def test_threads_of_a_copy_are_not_taken_for_one_that_was_starting_a_worker() -> None:
    """A fork gets nothing of its parent's pool, whichever thread makes it; threads have the numbers of those before.

    The parent is itself a fork, made while the pool's thread of its own parent was forking a worker.
    """
    ended = run_script("""
        import os, threading
        from amltk.scheduling.executors import ProcessPool

        forking, copied = threading.Event(), threading.Event()

        def hold_up_a_start():
            if threading.current_thread().name == "amltk-process-pool" and not copied.is_set():
                forking.set()
                copied.wait()

        def fork(counts, turn):
            turn.wait()
            child = os.fork()
            if not child:
                os._exit(len(os.listdir("/proc/self/fd")))
            counts.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

        def compare():
            counts, turns = [], [threading.Event() for _ in range(5)]
            threads = [threading.Thread(target=fork, args=(counts, turn)) for turn in turns]
            for thread in threads:
                thread.start()
            with ProcessPool(1) as own:
                own.submit(abs, -1).result()
                for thread, turn in zip(threads, turns):
                    turn.set()
                    thread.join()
            print(len(set(counts)), flush=True)

        os.register_at_fork(before=hold_up_a_start)
        with ProcessPool(1, "fork") as pool:
            call = pool.submit(abs, -7)
            forking.wait()
            copy = os.fork()
            if not copy:
                copied.set()
                compare()
                os._exit(0)
            copied.set()
            os.waitpid(copy, 0)
            print(call.result())
        """)
    assert ended.lines == ["1", "7"], ended.errors
    assert ended.code == 0
