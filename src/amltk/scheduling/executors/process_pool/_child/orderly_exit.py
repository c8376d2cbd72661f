"""The end of a worker that is no longer needed: what every Python program does when it ends.

It waits for non-daemon threads (including those of a `ThreadPoolExecutor`), calls the functions registered with
`atexit` (among them finalizers of `weakref` and `multiprocessing`, which end or join child processes), and flushes
files. All this is done here, step by step, so that the pool can be informed of what takes time.

After that, a worker in its own interpreter continues to the interpreter's end, which is known to hang or crash for some
libraries: by then nothing depends on it. A worker that is a copy of the user's process must not do that, since it would
also end and flush what belongs to that process. It does the steps for its own objects only, and exits.
"""

from __future__ import annotations

import gc
import io
import itertools
import os
import signal
import sys
import threading
import types
from typing import TYPE_CHECKING, Any, NoReturn

from amltk import _compat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

QUICK_SECONDS = 0.05
"""How many seconds an end may take before the pool is informed what it waits for, and the interval of later checks."""

INTERPRETER_EXIT_SECONDS = 2.0
"""How many seconds the interpreter's own end may take, after all steps; then the system ends the process."""

MAX_NAMED = 3
"""How many threads and processes are named individually."""

_FILE, _RAW_FILE = _compat.file_types()

_BUFFERS = (io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair)

_INSTALLED = (os.path.dirname(os.__file__), os.path.dirname(_compat.__file__), "<frozen")
"""The prefixes of file names that are part of Python or of this package."""

_LIBRARIES = ("site-packages", "dist-packages")


def forget_parent() -> None:
    """Drop what the parent would do at its end, in a copy of it that was just made by `os.fork`.

    `multiprocessing` does the same in its children, except for finalizers of `weakref` (python/cpython#88887): without
    it, a worker would remove the parent's temporary directories, and not its own.
    """
    # The pool's thread, a daemon, has become the main thread; threads that it starts must not inherit that.
    _compat.become_main(threading.current_thread())
    _compat.forget_exit_functions()
    _compat.forget_child_processes()
    gc.freeze()  # `_write_files` then finds only later objects


def remove_temporary() -> None:
    """Remove what is removed at the end of this process, such as temporary folders, where there will be no such end."""
    _compat.run_finalizers()


def end_worker(tell: Callable[[str], None], *, is_copy: bool) -> NoReturn:
    """End this process in order. Must be called on its main thread.

    Args:
        tell: Called on a thread with a text that says what is being waited for, if the end takes some time, and again
            whenever that changes.
        is_copy: Whether the process is a copy of the user's, see `forget_parent`.

    Raises:
        SystemExit: The steps are done; the interpreter must handle it, unless this is a copy.
    """
    watch = _Watch(tell)
    watch.start()
    _compat.join_threads()
    watch.threads_are_done = True
    _compat.run_exit_functions()
    if not is_copy and not watch.sees_threads():  # a daemon thread may use them
        _drop_globals()
    _write_files(close=is_copy)
    _flush_streams()
    watch.stop()
    if is_copy:
        os._exit(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, INTERPRETER_EXIT_SECONDS)
    gc.freeze()  # otherwise collections take most of the interpreter's end, a second with scikit-learn
    raise SystemExit(0)


class _Watch:
    """Reports what the end of this process waits for."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.threads_are_done: bool = False
        self._tell = tell
        self._main = threading.get_ident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="amltk-farewell", daemon=True)

    def start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError:
            pass  # no thread can be started; the end is orderly even without it

    def stop(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def sees_threads(self) -> bool:
        """Whether there is any thread besides the main one, daemons included."""
        return any(thread not in {threading.main_thread(), self._thread} for thread in threading.enumerate())

    def _look(self) -> None:
        told = None
        while not self._over.wait(QUICK_SECONDS):
            text = self._awaited()
            if text != told:
                told = text
                try:
                    self._tell(text)
                except OSError:
                    return  # the pool is gone

    def _awaited(self) -> str:
        frames = sys._current_frames()
        found = [] if self.threads_are_done else list(_threads(frames))
        found += [f"process {child.pid} ({child.name})" for child in list(_compat.child_processes())]
        if not found:
            return f"a function registered to run at exit ({_place(frames[self._main])})"
        more = len(found) - MAX_NAMED
        return ", ".join(found[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _threads(frames: dict[int, FrameType]) -> Iterable[str]:
    """The threads that the end waits for, and what they are doing."""
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread() and thread.ident in frames:
            yield f"thread {thread.name!r} ({_place(frames[thread.ident])})"


def _place(frame: FrameType) -> str:
    """A description of the innermost frame, preferably of the user's code."""
    innermost, users = frame, None
    current: FrameType | None = frame
    while current is not None and users is None:
        if _is_users(current.f_code.co_filename):
            users = current
        current = current.f_back
    code = (users or innermost).f_code
    return f"{code.co_name} in {os.path.basename(code.co_filename)}"


def _drop_globals() -> None:
    """Drop the globals of users' modules, the latest first, so that finalizers still find their functions.

    The interpreter's end would do so with garbage collections that take long if large libraries are loaded.
    """
    main = sys.modules["__main__"]
    for module in [main, *reversed(list(sys.modules.values()))]:
        names: dict[str, Any] = getattr(module, "__dict__", {})  # no attribute access: the module may load lazily
        if module is main or _is_users(names.get("__file__")):
            for name, value in reversed(list(names.items())):
                if not name.startswith("__") and not isinstance(value, types.FunctionType | type | types.ModuleType):
                    names.pop(name, None)


def _is_users(file: object) -> bool:
    """Whether a file name is neither part of Python nor of an installed library."""
    return isinstance(file, str) and not (file.startswith(_INSTALLED) or any(folder in file for folder in _LIBRARIES))


def _write_files(*, close: bool) -> None:
    """Flush files, first those that write into others; `gc.freeze` excludes earlier ones.

    Args:
        close: Also close them, as the interpreter's end would; including files built on other files, such as archives,
            which write their ends only then.
    """
    files = [obj for obj in gc.get_objects() if issubclass(type(obj), _FILE)]
    ranks: list[Callable[[Any], bool]] = [lambda file: isinstance(file, io.TextIOWrapper)]
    if close:
        ranks.append(lambda file: not isinstance(file, (*_BUFFERS, _RAW_FILE)))
    ranks.append(lambda file: isinstance(file, _BUFFERS))
    streams = {id(stream) for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)}
    for is_of_rank, file in itertools.product(ranks, files):
        if is_of_rank(file) and id(file) not in streams:
            try:
                file.close() if close else file.flush()
            except Exception:  # noqa: BLE001 - it is closed, or the interpreter's end would ignore it too
                pass


def flush_output() -> list[Any]:
    """Flush printed text.

    Returns:
        The streams that cannot be flushed: no one reads them, or they were closed or replaced.
    """
    failed: list[Any] = []
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001 - it may be the program's own object, which says why when it is used
            failed.append(stream)
    return failed


def _flush_streams() -> None:
    """Flush printed text; if no one can read it any more, that must not raise at the interpreter's end."""
    for stream in flush_output():
        _discard(stream)


def _discard(stream: object) -> None:
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())  # type: ignore[attr-defined]
        os.close(descriptor)
    except (OSError, ValueError, AttributeError):
        pass  # it has no descriptor, so it does no harm
