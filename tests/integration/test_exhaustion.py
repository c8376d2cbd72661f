"""What does not fit into memory, or into the limit on open files, costs as little as possible and says why."""

from __future__ import annotations

import pytest

from tests.helpers.script import run_script

METHODS = ["forkserver", "spawn", "fork"]

PROGRAM = """
    import resource, sys

    import numpy as np

    from amltk.scheduling import Scheduler
    from amltk.scheduling.plugins.comm import Comm

    MIB = 1 << 20
    BIG = None

    def limit(more):
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + more * MIB, resource.RLIM_INFINITY))

    class HugeError(Exception):
        pass

    def nothing(_=None):
        pass

    def ones(n_mebibytes):
        return np.ones(n_mebibytes << 17)

    def fail(n_mebibytes):
        raise HugeError("x" * (n_mebibytes << 20))

    def use():
        return len(BIG)

    def talk(n_mebibytes, comm):
        with comm.open():
            comm.send(bytes(n_mebibytes << 20))
            return comm.request("anything?")

    def run(fill, driver=None, workers=None):
        '''Nine small calls around what `fill` submits; the limits are more memory than is used, in MiB.'''
        options = {} if workers is None else dict(initializer=limit, initargs=(workers,))
        scheduler = Scheduler.with_processes(1, **options)
        small = scheduler.task(nothing)
        said = []

        @scheduler.on_start
        def begin():
            small.submit()

        @small.on_result(max_calls=1)
        def go_on(future, result):
            if driver is not None:
                limit(driver)
            for _ in range(4):
                small.submit()
            fill(scheduler)
            for _ in range(4):
                small.submit()

        scheduler.on_future_exception(lambda future, error: said.append(f"{type(error).__name__}: {error}"))
        state = scheduler.run(on_exception="continue", display=False)
        print(state.code.name)
        print("results", scheduler.event_counts[scheduler.FUTURE_RESULT])
        for text in said:
            print(text)
"""


def told(body: str) -> list[str]:
    ended = run_script(PROGRAM + body)
    assert ended.errors == ""
    assert ended.code == 0
    return ended.lines


def test_a_result_that_does_not_fit_into_the_drivers_memory_costs_that_call_only() -> None:
    code, results, error = told("""
    run(lambda scheduler: scheduler.submit(ones, 400), driver=150)
    """)
    assert (code, results) == ("EXHAUSTED", "results 9")
    assert error.startswith("MemoryError: the result takes 400.0 MiB")
    assert "ulimit -v" in error
    assert "or raise the limit" in error


def test_an_exception_that_does_not_fit_either() -> None:
    code, results, error = told("""
    run(lambda scheduler: scheduler.submit(fail, 300), driver=150)
    """)
    assert (code, results) == ("EXHAUSTED", "results 9")
    assert error.startswith("MemoryError: the exception takes ")


@pytest.mark.parametrize("what", ["ones(400)", "bytes(400 * MIB)"])
def test_an_argument_that_does_not_fit_into_a_workers_memory_costs_that_call_only(what: str) -> None:
    code, results, error = told(f"""
    run(lambda scheduler: scheduler.submit(nothing, {what}), workers=150)
    """)
    assert (code, results) == ("EXHAUSTED", "results 9")
    assert error.startswith("MemoryError: what the function is called with takes 400.0 MiB")


def test_a_global_that_does_not_fit_into_a_workers_memory_costs_the_calls_that_use_it() -> None:
    code, results, *errors = told("""
    def fill(scheduler):
        global BIG
        BIG = ones(400)
        scheduler.submit(use)
        scheduler.submit(use)

    run(fill, workers=150)
    """)
    assert (code, results) == ("EXHAUSTED", "results 9")
    assert len(errors) == 2
    assert all(error.startswith("MemoryError: what the function refers to takes 400.0 MiB") for error in errors)


def test_an_argument_that_cannot_be_pickled_for_lack_of_memory_costs_that_call_only() -> None:
    code, results, error = told("""
    data = bytes(200 * MIB), [0]
    run(lambda scheduler: scheduler.submit(nothing, data), driver=150)
    """)
    assert (code, results) == ("EXHAUSTED", "results 9")
    assert error.startswith("MemoryError: this process has no memory left to pickle what is sent to a worker process")


def test_an_exception_that_a_worker_has_no_memory_to_send_leaves_the_worker_alone() -> None:
    code, results, error = told("""
    run(lambda scheduler: scheduler.submit(fail, 90), workers=150)
    """)
    assert (code, results) == ("EXHAUSTED", "results 9")
    assert error.startswith("MemoryError: this process has no memory left to pickle")


def test_a_message_that_does_not_fit_closes_its_comm_only() -> None:
    lines = told("""
    def fill(scheduler):
        task = scheduler.task(talk, plugins=Comm.Plugin())
        task.on("comm-request")(lambda msg: msg.respond("no"))
        task.on("comm-close")(lambda msg: print("closed"))
        for n_mebibytes in (1, 400, 1):
            task.submit(n_mebibytes)

    import logging
    logging.basicConfig(stream=sys.stdout)
    run(fill, driver=150)
    """)
    assert lines.count("closed") == 3
    assert "results 11" in lines
    assert lines[-1].startswith("CommClosedError: a message takes 400.0 MiB")
    logged = [line for line in lines if line.startswith("WARNING")]
    assert len(logged) == 1
    assert "the comm of a call of talk is closed: a message takes 400.0 MiB" in logged[0]


DESCRIPTORS = """
    import os, resource

    from amltk.scheduling import Scheduler

    def nothing():
        pass

    def run(n_free, method):
        scheduler = Scheduler.with_processes(2, method)
        task = scheduler.task(nothing)
        scheduler.on_start(lambda: [task.submit() for _ in range(6)])
        used = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + n_free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        try:
            scheduler.run(on_exception="continue", display=False)
        except Exception as error:
            print(type(error).__name__, error)
        else:
            print(scheduler.event_counts[scheduler.FUTURE_RESULT], "results")
"""


@pytest.mark.parametrize("n_free", [0, 1, 3, 6])
def test_too_few_descriptors_for_a_run_are_one_clear_error(n_free: int) -> None:
    ended = run_script(f"{DESCRIPTORS}\n    run({n_free}, 'forkserver')\n")
    assert ended.errors == ""
    (line,) = ended.lines
    assert line.startswith("OSError [Errno 24] a run needs 8 file descriptors")
    assert "ulimit -n" in line


@pytest.mark.parametrize("n_free", [9, 12, 15])
@pytest.mark.parametrize("method", METHODS)
def test_few_descriptors_are_enough_or_are_named_as_what_is_missing(n_free: int, method: str) -> None:
    ended = run_script(f"{DESCRIPTORS}\n    run({n_free}, {method!r})\n")
    assert "Exception ignored" not in ended.errors
    assert "Traceback" not in ended.errors
    (line,) = ended.lines
    assert line == "6 results" or ("ExecutorBrokenError" in line and "ulimit -n" in line)


HOSTILE = {
    "a lock among the arguments": "sys.argv = ['program', threading.Lock(), 'x']",
    "an argument of a class of the program": "sys.argv = ['program', Text('x')]",
    "no arguments": "del sys.argv",
    "arguments that are none": "sys.argv = None",
    "entries of the path that are no strings": "sys.path += [threading.Lock(), None, Text('/nowhere')]",
    "a lock among the options for warnings": "sys.warnoptions.append(threading.Lock())",
    "no options for warnings": "del sys.warnoptions",
    "an environment of other values": "os.environ = {**os.environ, 'number': 1}",
    "streams that cannot be flushed": "sys.stderr = Stream()",
    "a default timeout of sockets": "__import__('socket').setdefaulttimeout(0.001)",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_start_does_not_depend_on_what_the_program_has_made_of_its_surroundings(change: str, method: str) -> None:
    ended = run_script(f"""
    import os, sys, threading

    from amltk.scheduling import Scheduler

    class Text(str):
        __slots__ = ()

    class Stream:
        def write(self, text):
            pass

        def flush(self):
            raise RuntimeError("never")

    def texts():
        return [argument for argument in getattr(sys, "argv", None) or () if isinstance(argument, str)]

    {change}
    scheduler = Scheduler.with_processes(1, {method!r})
    task = scheduler.task(texts)
    scheduler.on_start(task.submit)
    task.on_result(lambda future, result: print(result == texts()))
    print(scheduler.run(display=False).code.name)
    """)
    assert ended.lines == ["True", "EXHAUSTED"], ended.errors
