"""The internals of CPython, cloudpickle and Ray that the package uses behave as expected, one test for each.

A new version that changes one fails here, with the place to fix, before anything else fails obscurely.
"""

from __future__ import annotations

import ast
import asyncio
import concurrent.futures
import contextlib
import ctypes
import importlib.util
import io
import linecache
import multiprocessing
import os
import pickle
import platform
import sys
import threading
from collections.abc import Iterator
from multiprocessing import heap
from typing import Any

import cloudpickle
import pytest

from amltk import _compat
from amltk.scheduling.executors.light_future import LightFuture
from tests.helpers import sources
from tests.helpers.script import run_script


@contextlib.contextmanager
def relying_on(what: str, *users: object) -> Iterator[None]:
    """Report what has changed, the version that changed it, and the functions that use it."""
    try:
        yield
    except Exception as error:
        names = ", ".join(str(getattr(user, "__name__", user)) for user in users)
        raise AssertionError(
            f"CPython {platform.python_version()}, cloudpickle {cloudpickle.__version__} or Ray has changed {what}: "
            f"mend amltk._compat ({names})"
        ) from error


def lines_of(what: str, user: object, source: str, *options: str) -> list[str]:
    """The output of a program that uses the function."""
    with relying_on(what, user):
        ended = run_script(source, *options)
        assert (ended.code, ended.errors) == (0, ""), ended
    return ended.lines


# ------------------------------------------------------------------------------------------------------------- asyncio


def test_the_running_loop_can_be_set_aside() -> None:
    """Another loop can run within a callback of one, and the first one then continues with its task."""

    async def main() -> str:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        _compat.leave_task(loop, task)
        _compat.set_running_loop(None)
        inner = asyncio.new_event_loop()
        try:
            name = inner.run_until_complete(asyncio.sleep(0, "inner"))
        finally:
            inner.close()
            _compat.set_running_loop(loop)
            _compat.enter_task(loop, task)
        assert asyncio.current_task() is task
        await asyncio.sleep(0)
        return name

    users = (_compat.leave_task, _compat.enter_task, _compat.set_running_loop)
    with relying_on("asyncio._set_running_loop, _leave_task or _enter_task", *users):
        assert asyncio.run(main()) == "inner"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has epoll")
def test_descriptors_of_a_loop_can_be_renewed() -> None:
    """The loop then has its own descriptors, and another thread can wake it."""
    with relying_on("the selector or the self-pipe of asyncio's loops", _compat.renew_descriptors):
        loop: Any = asyncio.new_event_loop()
        before = {loop._selector._selector, loop._ssock, loop._csock}
        _compat.renew_descriptors(loop)
        assert not before & {loop._selector._selector, loop._ssock, loop._csock}
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
        loop.call_soon(thread.start)
        loop.run_forever()
        thread.join()
        loop.close()


# ------------------------------------------------------------------------------------------------- concurrent.futures


def test_states_of_a_future() -> None:
    """The states of a future are the values of its `_state`."""
    with relying_on("the states of concurrent.futures.Future", "PENDING, RUNNING, FINISHED, CANCELLED"):
        future, cancelled = concurrent.futures.Future[None](), concurrent.futures.Future[None]()
        states = [future._state]
        future.set_running_or_notify_cancel()
        states.append(future._state)
        future.set_result(None)
        states.append(future._state)
        cancelled.cancel()
        states.append(cancelled._state)
        cancelled.set_running_or_notify_cancel()
        states.append(cancelled._state)
        names = ("PENDING", "RUNNING", "FINISHED", "CANCELLED", "CANCELLED_AND_NOTIFIED")
        assert states == [getattr(_compat, name) for name in names]


def test_a_future_of_ours_notifies_as_one_of_the_standard_library() -> None:
    """The base class, `wait` and `as_completed` use the condition, waiters and callbacks of our futures."""
    with relying_on("the attributes of concurrent.futures.Future", "LightFuture and PoolFuture use them too"):
        assert all(hasattr(LightFuture(), name) for name in vars(concurrent.futures.Future()))
        future, called = LightFuture[int](), list[object]()
        future.add_done_callback(called.append)
        thread = threading.Thread(target=future.set_result, args=(1,))
        thread.start()
        assert concurrent.futures.wait([future]).done == {future}
        thread.join()
        assert called == [future]
        waiter = concurrent.futures._base._Waiter()  # type: ignore[attr-defined]
        assert callable(waiter.add_cancelled)
        assert callable(concurrent.futures.Future._invoke_callbacks)  # type: ignore[attr-defined]


def test_what_a_pool_of_threads_says() -> None:
    """A thread pool has a maximum number of threads, and knows whether its initializer has failed."""
    with relying_on("ThreadPoolExecutor._max_workers or _broken", _compat.max_workers, _compat.is_broken):
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            assert _compat.max_workers(pool) == 3
            assert not _compat.is_broken(pool)
        with concurrent.futures.ThreadPoolExecutor(1, initializer=divmod, initargs=(1, 0)) as pool:
            with pytest.raises(concurrent.futures.BrokenExecutor):
                pool.submit(abs, -1).result()
            assert _compat.is_broken(pool)


def test_what_a_pool_of_processes_says() -> None:
    """A process pool has pending calls, workers, and a thread that notices their exits."""
    users = (_compat.pending_items, _compat.processes_of, _compat.manager_of)
    with relying_on("ProcessPoolExecutor._pending_work_items, _processes or _executor_manager_thread", *users):
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
            assert _compat.pending_items(pool) == []
            future = pool.submit(os.getpid)
            pending = [item.future for item in _compat.pending_items(pool)]
            assert pending == [future] or future.done()
            assert list(_compat.processes_of(pool)) == [future.result()]
            manager = _compat.manager_of(pool)
            assert manager is not None
            assert manager.is_alive()
        assert _compat.processes_of(pool) == {}


def test_a_manager_that_has_just_ended_may_be_woken() -> None:
    """At the end of Python, the standard library wakes the thread of a pool which may be closing what wakes it."""
    with relying_on("ProcessPoolExecutor._executor_manager_thread_wakeup", _compat.allow_waking_ended_manager):
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            pool.submit(os.getpid).result()
            wakeup: Any = pool._executor_manager_thread_wakeup  # type: ignore[attr-defined]
            _compat.allow_waking_ended_manager(pool)
            assert wakeup.wakeup() is None  # the manager is there, and goes on
        wakeup._closed = False  # as it looks to a thread that was a moment earlier
        wakeup.wakeup()


def test_other_executors_say_nothing() -> None:
    """A user's executor has none of these attributes."""
    executor = concurrent.futures.Executor()
    assert _compat.max_workers(executor) is None
    assert _compat.is_broken(executor)
    assert _compat.pending_items(executor) == []
    assert _compat.processes_of(executor) == {}
    assert _compat.manager_of(executor) is None
    _compat.allow_waking_ended_manager(executor)


# ------------------------------------------------------------------------------------------------------------- threads


@pytest.mark.parametrize("make", [threading.RLock, threading.Condition])
def test_a_lock_knows_whether_this_thread_holds_it(make: Any) -> None:
    """A lock knows whether this thread holds it; another thread's ownership does not count."""
    with relying_on("RLock._is_owned", _compat.is_owned):
        lock = make()
        with lock:
            assert _compat.is_owned(lock)
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                assert not pool.submit(_compat.is_owned, lock).result()
        assert not _compat.is_owned(lock)


def test_a_daemon_can_become_the_main_thread() -> None:
    """A daemon thread can become the main thread: threads inherit the daemon flag."""
    with relying_on("Thread._daemonic", _compat.become_main):
        thread = threading.Thread(daemon=True)
        _compat.become_main(thread)
        assert not thread.daemon


@pytest.mark.skipif(sys.platform != "linux", reason="the thread runs a function of the C library of Linux")
@pytest.mark.parametrize("kept", [False, True])
def test_what_is_known_of_a_thread_of_other_code_can_be_kept(kept: bool) -> None:
    """CPython forgets a thread that C code has started after each call of Python from there, unless told otherwise."""
    libc = ctypes.CDLL(None)
    local, seen = threading.local(), []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    def call_python(*_: Any) -> int:
        seen.append(hasattr(local, "value"))
        if kept and not seen[-1]:
            _compat.keep_thread_state()
        local.value = 1
        return len(seen) == 3  # else it is called for the next library that is loaded

    thread = ctypes.c_void_p()
    with relying_on("PyGILState_Ensure", _compat.keep_thread_state):
        assert libc.pthread_create(ctypes.byref(thread), None, libc.dl_iterate_phdr, call_python) == 0
        assert libc.pthread_join(thread, None) == 0
        assert seen == [False, kept, kept]


# ------------------------------------------------------------------------------------------- the end of a program


def test_the_end_of_a_program_can_be_run_step_by_step() -> None:
    """Threads are joined, then finalizers and exit functions run; interpreter shutdown repeats none of them."""
    source = """
        import atexit, threading, weakref
        from amltk import _compat

        class Thing: ...

        thing = Thing()
        weakref.finalize(thing, print, "finalizer")
        atexit.register(print, "exit function")
        go_on = threading.Event()
        threading.Thread(target=lambda: (go_on.wait(), print("thread"))).start()
        threading.Thread(target=go_on.set, daemon=True).start()
        _compat.join_threads()
        print([info.func is print for info in _compat.finalizers_at_exit() if info.atexit])
        _compat.run_finalizers()
        _compat.run_exit_functions()
        print("end")
        """
    users = "join_threads, finalizers_at_exit, run_finalizers or run_exit_functions"
    lines = lines_of("threading._shutdown, weakref.finalize or atexit._run_exitfuncs", users, source)
    assert lines == ["thread", "[True]", "finalizer", "exit function", "end"]


def test_a_copy_ends_without_what_its_parent_registered() -> None:
    """Only a forked process's own registrations run at its exit; it has no child processes."""
    source = """
        import atexit, os, weakref
        from multiprocessing import util
        from amltk import _compat

        class Thing: ...

        def register(whose):
            things.append(Thing())
            weakref.finalize(things[-1], print, f"{whose} finalizer")
            util.Finalize(None, print, (f"{whose} finalizer of multiprocessing",), exitpriority=1)
            atexit.register(print, f"{whose} exit function")

        things = []
        register("parent's")
        util.register_after_fork(things[0], lambda _: print("hook of multiprocessing"))
        _compat.child_processes().add("child")
        pid = os.fork()
        if pid == 0:
            _compat.forget_exit_functions()
            _compat.forget_child_processes()
            register("copy's")
            print(_compat.child_processes())
            _compat.run_exit_functions()
            os._exit(0)
        os.waitpid(pid, 0)
        print(_compat.child_processes())
        os._exit(0)
        """
    users = "forget_exit_functions, forget_child_processes or child_processes"
    lines = lines_of("what atexit, weakref.finalize or multiprocessing.util keep for the end", users, source)
    hook, children, *own, parent = lines
    assert (hook, children, parent) == ("hook of multiprocessing", "set()", "{'child'}")
    assert sorted(own) == ["copy's exit function", "copy's finalizer", "copy's finalizer of multiprocessing"]


def test_types_of_files() -> None:
    """The file types are bases of all files and of unbuffered ones; the classes of `io` are only registered as such."""
    with relying_on("_io._IOBase or _RawIOBase", _compat.file_types):
        file, raw = _compat.file_types()
        assert all(issubclass(kind, file) for kind in (io.FileIO, io.BufferedWriter, io.TextIOWrapper, io.BytesIO))
        assert issubclass(io.FileIO, raw)
        assert not any(issubclass(kind, raw) for kind in (io.BufferedWriter, io.TextIOWrapper, io.BytesIO))


# ----------------------------------------------------------------------------------------------------- multiprocessing


def test_settings_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process settings determine whether this process is a daemon."""
    with relying_on("BaseProcess._config", _compat.process_settings):
        monkeypatch.setitem(_compat.process_settings(), "daemon", True)
        assert multiprocessing.current_process().daemon


def test_how_objects_are_pickled_for_a_process_that_is_started() -> None:
    """Spawning uses the reductions registered with `ForkingPickler`, including those of `multiprocessing` itself."""
    with relying_on("ForkingPickler._extra_reducers", _compat.spawning_reducer):
        reduce = _compat.spawning_reducer(heap.Arena)
        assert reduce is not None
        assert reduce.__module__ == "multiprocessing.heap"
        assert _compat.spawning_reducer(dict) is None


def test_locks_that_only_a_fork_can_have() -> None:
    """Only locks of the fork context are limited to forks: others have a name, by which any process can find them."""
    source = """
        import threading
        from multiprocessing import get_context
        from amltk import _compat

        for make in (get_context("fork").Lock, get_context("spawn").Lock, threading.Lock):
            print(_compat.is_inherited_by_forks_only(make()))
        """
    lines = lines_of("SemLock._is_fork_ctx", _compat.is_inherited_by_forks_only, source)
    assert lines == ["True", "False", "False"]


def test_the_resource_tracker_can_be_another_ones() -> None:
    """With its descriptor set, no resource tracker is started; lines go there, and probes are recognised as such."""
    source = """
        import os
        from multiprocessing import resource_tracker
        from amltk import _compat

        print(_compat.tracker_descriptor())
        reader, writer = os.pipe()
        _compat.set_tracker_descriptor(writer)
        _compat.disown_tracker()
        resource_tracker.ensure_running()
        resource_tracker.register("segment", "shared_memory")
        resource_tracker.unregister("segment", "shared_memory")
        print(resource_tracker.getfd() == writer == _compat.tracker_descriptor())
        lines = os.read(reader, 1 << 16).splitlines()
        made, removed = [line for line in lines if not line.startswith(_compat.TRACKER_PROBES)]
        print(made == removed.replace(b"UNREGISTER", b"REGISTER"))
        print(not made.startswith(_compat.TRACKER_REMOVALS), removed.startswith(_compat.TRACKER_REMOVALS))
        print(any(line.startswith(_compat.TRACKER_PROBES) for line in lines))
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            print("no child")
        _compat.set_tracker_descriptor(None)
        """
    users = "tracker_descriptor, set_tracker_descriptor, disown_tracker, TRACKER_PROBES or TRACKER_REMOVALS"
    lines = lines_of("multiprocessing.resource_tracker._resource_tracker", users, source)
    assert lines == ["None", "True", "True", "True True", "True", "no child"]


def test_a_copy_keeps_the_descriptor_if_it_is_not_set() -> None:
    """From CPython 3.14 on, `multiprocessing` closes the set descriptor in every forked process."""
    source = """
        import os
        from multiprocessing import resource_tracker
        from amltk import _compat

        reader, writer = os.pipe()
        _compat.set_tracker_descriptor(writer)
        _compat.set_tracker_descriptor(None)
        pid = os.fork()
        if pid == 0:
            os.write(writer, b"kept")
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(writer)
        print(os.read(reader, 4).decode())
        """
    lines = lines_of("the fork hook of multiprocessing.resource_tracker", _compat.set_tracker_descriptor, source)
    assert lines == ["kept"]


# ------------------------------------------------------------------------------------------------ programs and sources


def test_flags_of_the_interpreter() -> None:
    """The interpreter's flags are options that make a fresh interpreter behave like this one."""
    source = "from amltk import _compat; print(*_compat.interpreter_flags())"
    what = "subprocess._args_from_interpreter_flags"
    (line,) = lines_of(what, _compat.interpreter_flags, source, "-O", "-Wignore")
    assert {"-O", "-Wignore"} <= set(line.split())
    assert run_script("print(__debug__)", *line.split()).lines == ["False"]


def test_source_of_what_was_typed() -> None:
    """CPython knows the lines of `python -c` and of an interactive interpreter from 3.14 on."""
    source = "def double(x):\n    return 2 * x\n\nfrom amltk import _compat\n"
    source += "print(*_compat.interactive_source(double.__code__)[:2], sep='')"
    with relying_on("linecache._getlines_from_code", _compat.interactive_source):
        assert hasattr(linecache, "_getlines_from_code") or sys.version_info < (3, 14)
        lines = run_script("", "-c", source).lines
        assert lines[:2] == (["def double(x):", "    return 2 * x"] if sys.version_info >= (3, 14) else [""])


def test_the_unpickler_in_python() -> None:
    """Its operations work on its stacks, and can be replaced one by one."""
    with relying_on("pickle._Unpickler", _compat.python_unpickler):
        kind = _compat.python_unpickler()
        seen = []

        def append_all(unpickler: Any) -> None:
            seen.append((list(unpickler.metastack[-1]), list(unpickler.stack), unpickler.memo))
            assert unpickler.pop_mark() == [1, 2]
            unpickler.stack[-1].append("both")

        replaced = type("Replaced", (kind,), {"dispatch": kind.dispatch | {pickle.APPENDS[0]: append_all}})
        assert replaced(io.BytesIO(pickle.dumps([1, 2], 5))).load() == ["both"]
        assert seen == [([["both"]], [1, 2], {0: ["both"]})]


# --------------------------------------------------------------------------------------------------------- cloudpickle


class Base:
    """A class with all the usual parts."""

    __slots__ = ("__weakref__", "x")

    class Inner:
        """Its qualified name has a dot."""


def test_how_cloudpickle_takes_classes_apart() -> None:
    """cloudpickle reduces a class to its factory, its attributes, and the function that sets them."""
    with relying_on("cloudpickle's _dynamic_class_reduce", _compat.reduce_class_by_value):
        _, made, (attributes, slots), setter, is_plain = _compat.reduce_class_by_value(Base)
        assert (slots, is_plain, setter.__name__) == ({}, True, "_class_setstate")
        kind, name, bases, namespace, tracker, extra = made
        assert (kind, name, bases, extra) == (type, "Base", (object,), None)
        assert namespace == {"__module__": __name__}
        assert isinstance(tracker, str)
        assert attributes["Inner"] is Base.Inner


def test_how_cloudpickle_takes_nameless_classes_apart() -> None:
    """The interpreter's own classes that cannot be imported are looked up through an instance."""
    with relying_on("cloudpickle's _class_reduce", _compat.reduce_nameless_class):
        assert _compat.reduce_nameless_class(type(None)) == (type, (None,))


def test_what_cloudpickle_has_reducers_for() -> None:
    """cloudpickle's reducers are functions that take the object."""
    with relying_on("cloudpickle's Pickler._dispatch_table", _compat.cloudpickle_reducers):
        make, arguments = _compat.cloudpickle_reducers()[property](property(len))[:2]
        assert make(*arguments).fget is len


# ---------------------------------------------------------------------------------------------------------------- Ray


def test_what_ray_calls_back_with() -> None:
    """The future of a reference is made of what takes a callback."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("!!! NOT TESTED ON RAY: it is not installed")
    told = lines_of(
        "ObjectRef._on_completed",
        _compat.when_ray_has,
        """
        import ray
        from amltk import _compat

        class Reference(ray.ObjectRef):
            def _on_completed(self, py_callback):
                py_callback("value")

        _compat.when_ray_has(Reference(bytes(28)), print)
        print(Reference(bytes(28)).future().result(0))
        """,
    )
    assert told == ["value", "value"]


# ------------------------------------------------------------------------------------------------------- nothing else

DOCUMENTED = {"sys": {"_current_frames", "_getframe", "_xoptions"}, "os": {"_exit"}}


def uses_of_insides(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The lines of a module that use a private name of a module outside the package, and that module's name."""
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update((alias.asname or alias.name.partition(".")[0], alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith(("amltk", "__future__")):
            modules.update((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
            if any(part.startswith("_") for part in node.module.split(".") + [alias.name for alias in node.names]):
                yield node.lineno, node.module
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner: ast.expr = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            name = modules.get(owner.id, "") if isinstance(owner, ast.Name) else ""
            if name and not name.startswith("amltk") and node.attr not in DOCUMENTED.get(name, ()):
                yield node.lineno, name


def test_nothing_else_reaches_into_other_packages() -> None:
    """All private names of CPython and of libraries are used only in `amltk._compat`."""
    found = [
        f"{module}:{line}: {name}"
        for module, tree in sources.trees().items()
        if module != "_compat.py"
        for line, name in uses_of_insides(tree)
    ]
    assert found == []
