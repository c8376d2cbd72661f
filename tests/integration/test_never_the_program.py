"""Neither workers nor what calls start run the user's program a second time."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from tests.helpers.script import PATHS, Ended, run_script

METHODS = ["forkserver", "spawn", "fork"]

BRAKE = """
    import os, sys
    if int(os.environ.setdefault("BRAKE", "0")) > 3:
        os._exit(7)  # never without end
    os.environ["BRAKE"] = str(int(os.environ["BRAKE"]) + 1)
"""

STARTING = {
    "a run": "Scheduler.with_processes(1).run()",
    "a run in threads": "Scheduler.with_threads(1).run()",
    "an async run": "asyncio.run(Scheduler.with_processes(1).async_run())",
    "a pool": "ProcessPool(1).submit(abs, -1)",
    "a run in a thread": """
        failures = []
        def search():
            try:
                Scheduler.with_processes(1).run()
            except Exception as error:
                failures.append(error)
        thread = threading.Thread(target=search)
        thread.start()
        thread.join()
        raise failures[0]
        """,
    "a process by fork": "multiprocessing.get_context('fork').Process(target=print).start()",
    "a process by spawn": "multiprocessing.get_context('spawn').Process(target=print).start()",
    "a process by forkserver": "multiprocessing.get_context('forkserver').Process(target=print).start()",
    "the standard library's executor": """
        with concurrent.futures.ProcessPoolExecutor(1) as executor:
            executor.submit(abs, -1).result()
        """,
    "the standard library's pool": "multiprocessing.Pool(1)",
    "a manager": "multiprocessing.Manager()",
}
"""What a module without a main guard may do when it is imported."""

ALLOWED = {
    "a scheduler that does not run": """
        scheduler = Scheduler.with_processes(4)
        @scheduler.task
        def train(x):
            return x
        """,
    "a program": "subprocess.run([sys.executable, '-c', ''], check=True)",
    "a thread": "thread = threading.Thread(target=time.sleep, args=(0.01,)); thread.start(); thread.join()",
    "a lock": "lock = multiprocessing.get_context('spawn').Lock()",
    "a pool without calls": "pool = ProcessPool(1)",
}

IMPORTS = """
    import asyncio, concurrent.futures, multiprocessing, subprocess, threading, time
    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import ProcessPool
"""

SEARCH = """
    import importlib, os, sys
    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import ProcessPool

    class Module:
        '''A worker that loads it imports the module; here nobody does.'''
        def __init__(self, name):
            self.name = name
        def __reduce__(self):
            return importlib.import_module, (self.name,)

    def run(call, *arguments, **options):
        told = []
        scheduler = Scheduler.with_processes(1, mp_context=METHOD, **options)
        scheduler.on_start(lambda: scheduler.submit(call, *arguments))
        scheduler.on_future_result(lambda future, result: told.append(("result", str(result))))
        scheduler.on_future_exception(lambda future, error: told.append((type(error).__name__, str(error))))
        scheduler.run(on_exception="continue")
        return told
"""


def dedent(*texts: str) -> str:
    return "\n".join(map(textwrap.dedent, texts))


def search(source: str, folder: Path, method: str, **modules: str) -> Ended:
    """Run a program whose workers may import these modules."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(dedent(BRAKE, text))
    ended = run_script(dedent(f"METHOD = {method!r}", SEARCH, source), path=[*PATHS, str(folder)])
    assert ended.code == 0, ended.errors
    return ended


@pytest.mark.parametrize("method", METHODS)
def test_what_a_module_starts_when_a_worker_imports_it(method: str, tmp_path: Path) -> None:
    """If an argument's module starts anything, the call fails once, with an error naming the module and the guard."""
    names = {f"module_{number}": what for number, what in enumerate(STARTING)}
    modules = {name: dedent(IMPORTS, STARTING[what]) for name, what in names.items()}
    ended = search(
        f"""
        import json
        for name in {list(names)}:
            print(json.dumps([name, run(str, Module(name))]))
        """,
        tmp_path,
        method,
        **modules,
    )
    for line in ended.lines:
        name, told = json.loads(line)
        assert [kind for kind, _ in told] == ["NestingError"], (names[name], told)
        assert f"module {name!r} ({tmp_path / name}.py)" in told[0][1]
        assert 'if __name__ == "__main__":' in told[0][1]
    assert len(ended.lines) == len(names)


@pytest.mark.parametrize("where", ["argument", "definition", "initializer"])
def test_whatever_a_worker_loads_is_checked(where: str, tmp_path: Path) -> None:
    """It does not matter whether a call's function, its arguments or the initializer load the module."""
    source = {
        "argument": "print(run(str, Module('first')))",
        "definition": """
            used = Module('first')
            print(run(lambda: used))
            """,
        "initializer": """
            try:
                run(str, initializer=print, initargs=(Module('first'),))
            except Exception:
                import traceback
                print(traceback.format_exc().replace("\\n", " "))
            """,
    }[where]
    ended = search(source, tmp_path, "forkserver", first=dedent(IMPORTS, STARTING["a run"]))
    assert "NestingError" in ended.lines[-1]
    assert "module 'first'" in ended.lines[-1].replace("\\", ""), (ended.lines, ended.errors)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_module_may_do_when_a_worker_imports_it(method: str, tmp_path: Path) -> None:
    """Creating a scheduler, and starting programs, threads and locks, is allowed."""
    names = [f"module_{number}" for number in range(len(ALLOWED))]
    modules = {name: dedent(IMPORTS, text) for name, text in zip(names, ALLOWED.values(), strict=True)}
    ended = search(f"print([run(str, Module(name))[0][0] for name in {names}])", tmp_path, method, **modules)
    assert ended.lines == [str(["result"] * len(names))]


@pytest.mark.parametrize("method", METHODS)
def test_calls_and_initializers_may_start_anything(method: str, tmp_path: Path) -> None:
    """Once a call or an initializer runs, pools, schedulers and processes work as in any program."""
    ended = search(
        """
        import multiprocessing

        def start():
            pool = ProcessPool(1)
            assert pool.submit(abs, -1).result() == 1
            pool.shutdown()
            child = multiprocessing.get_context("fork").Process(target=abs, args=(-1,))
            child.start()
            child.join()
            assert child.exitcode == 0

        def train():
            start()
            return run(os.getenv, "AMLTK_DEPTH")

        print(run(train, initializer=start))
        """,
        tmp_path,
        method,
    )
    assert "('result', '2')" in ended.lines[-1]


def test_a_background_thread_may_start_processes_while_a_worker_loads(tmp_path: Path) -> None:
    """What an earlier call has left running does not affect a module that a worker imports meanwhile."""
    ended = search(
        """
        import multiprocessing, threading

        def leave_a_thread():
            import slow
            def start():
                slow.begun.wait(60)
                child = multiprocessing.get_context("fork").Process(target=abs, args=(-1,))
                child.start()
                child.join()
                slow.outcome = child.exitcode
                slow.go_on.set()
            threading.Thread(target=start).start()

        def see(module):
            import slow
            return slow.outcome

        scheduler = Scheduler.with_processes(1)
        @scheduler.on_start
        def submit():
            scheduler.submit(leave_a_thread)
            scheduler.submit(see, Module("waiting"))
        scheduler.on_future_result(lambda future, result: print(result))
        scheduler.run()
        """,
        tmp_path,
        "forkserver",
        slow="""
            import threading
            begun, go_on, outcome = threading.Event(), threading.Event(), None
            """,
        waiting="""
            import slow
            slow.begun.set()
            assert slow.go_on.wait(60)
            """,
    )
    assert ended.lines == ["None", "0"], ended.errors


HELPERS = """
    import multiprocessing, os, sys
    from concurrent.futures import ProcessPoolExecutor
    from dataclasses import dataclass
    from amltk.scheduling import Scheduler

    with open("runs", "a") as file:
        print(os.getpid(), file=file)
    if len(open("runs").readlines()) > 5:
        os._exit(7)  # never without end

    CONTEXT, METHOD = sys.argv[1:]
    SCALE = 10

    @dataclass
    class Score:
        value: float

    class Squared(multiprocessing.get_context(CONTEXT).Process):
        def __init__(self, number, queue):
            super().__init__()
            self.number, self.queue = number, queue
        def run(self):
            self.queue.put(score(self.number))

    def scaled(x):
        return SCALE * x

    def score(x):
        return Score(scaled(x))

    def in_a_grandchild(x):
        with multiprocessing.get_context(CONTEXT).Pool(1) as pool:
            return pool.map(score, [x])[0]

    def train():
        context = multiprocessing.get_context(CONTEXT)
        with context.Pool(1) as pool:
            assert pool.map(score, [1, 2]) == [Score(10), Score(20)]
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            assert executor.submit(in_a_grandchild, 3).result() == Score(30)
        queue = context.SimpleQueue()
        child = Squared(4, queue)
        child.start()
        assert queue.get() == Score(40)
        child.join()
        with context.Manager() as manager:
            numbers = manager.list([1])
            numbers.append(Score(2))
            assert list(numbers) == [1, Score(2)]
        assert sys.modules["__main__"].__file__ == sys.argv[0]
        return "right"

    scheduler = Scheduler.with_processes(1, mp_context=METHOD)
    scheduler.on_start(lambda: scheduler.submit(train))
    scheduler.on_future_result(lambda future, result: print(result))
    scheduler.run()
    print(len(open("runs").readlines()))
"""


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
@pytest.mark.parametrize("method", METHODS)
def test_what_a_call_starts_does_not_run_the_script(context: str, method: str) -> None:
    """A call's children and grandchildren use the script's functions and classes, and the script runs once."""
    source = HELPERS.replace("sys.argv[1:]", f"{context!r}, {method!r}")
    ended = run_script(source)
    assert ended.lines == ["right", "1"], ended.errors


@pytest.mark.parametrize("method", METHODS)
def test_a_child_gets_what_can_be_pickled(method: str) -> None:
    """What cannot be pickled is left out of a child's `__main__`, and the error names what is used instead."""
    ended = run_script(f"""
        import multiprocessing, threading
        from amltk.scheduling import Scheduler

        class Locked:
            pass

        def prepare():
            global lock
            lock = Locked()
            lock.lock = threading.Lock()

        def uses_lock(x):
            return x if x < 10 else lock

        def find(name):
            import __main__
            try:
                return getattr(__main__, name) is not None
            except AttributeError as error:
                return str(error)

        def train():
            prepare, uses_lock, find
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                return pool.map(uses_lock, [1]), pool.map(find, ["lock", "find", "missing"])

        scheduler = Scheduler.with_processes(1, mp_context={method!r}, initializer=prepare)
        scheduler.on_start(lambda: scheduler.submit(train))
        scheduler.on_future_result(lambda future, result: print(*result, sep="\\n"))
        scheduler.run()
        """)
    numbers, found = map(eval, ended.lines)
    assert numbers == [1]
    assert found[1] is True
    assert "no attribute 'lock'" in found[0]
    assert "no attribute 'missing'" in found[2]
    assert "does not run the program" in found[2]


def test_joblib_in_a_call_does_not_run_the_script() -> None:
    """joblib's own copy of loky starts processes from a call, and the script runs once."""
    pytest.importorskip("joblib")
    ended = run_script("""
        import os
        from amltk.scheduling import Scheduler

        with open("runs", "a") as file:
            print(os.getpid(), file=file)
        if len(open("runs").readlines()) > 5:
            os._exit(7)  # never without end

        def double(x):
            return 2 * x

        def train():
            from joblib import Parallel, delayed
            return Parallel(2)(delayed(double)(x) for x in range(3))

        def with_main():
            from joblib.externals.loky.backend import get_context
            child = get_context("loky_init_main").Process(target=double, args=(1,))
            child.start()
            child.join()
            return child.exitcode

        scheduler = Scheduler.with_processes(1)
        scheduler.on_start(lambda: [scheduler.submit(train), scheduler.submit(with_main)])
        scheduler.on_future_result(lambda future, result: print(result))
        scheduler.run()
        print(len(open("runs").readlines()))
        """)
    assert ended.lines == ["[0, 2, 4]", "0", "1"], ended.errors


def test_preparation_data_names_the_program() -> None:
    """This version of Python names the program in its preparation data as we assume."""
    ended = run_script("""
        from multiprocessing import spawn
        from amltk.scheduling.executors.process_pool._child import spawned_main
        print([name for name in spawned_main.PROGRAM if name in spawn.get_preparation_data("any")])
        """)
    assert ended.lines == ["['init_main_from_path']"]
