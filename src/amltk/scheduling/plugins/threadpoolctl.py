"""Limit the threads of numerical libraries during a call with threadpoolctl."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from amltk import _extras
from amltk._checks import check_count, check_optional_count
from amltk.scheduling.plugin import PassingPlugin
from amltk.scheduling.plugins._support.imports import ImportWatch
from amltk.scheduling.plugins._support.process_wide import ProcessWide
from amltk.scheduling.plugins.wrapping import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from amltk.scheduling.plugin import Submission

_LIMITS = ProcessWide()


class ThreadPoolCTLPlugin(PassingPlugin):
    """Limits the threads that BLAS and OpenMP use, in the worker, while it computes a call.

    Without a limit each of several workers uses as many threads as there are cores, and they slow each other down. The
    limit applies to libraries loaded when a call begins, and to libraries that the call imports, as soon as the import
    has ended; not to those loaded in other ways, for example by `ctypes`. After the call each library may use as many
    threads as before, or as it would have used without a limit. If calls are computed in threads of one process, the
    limit applies to the whole process while any of them is computed.

    Args:
        max_threads: How many threads each library may use, or a limit for each kind, such as
            `{"blas": 1, "openmp": 2}`; None for no limit. Like `limits` of
            [threadpoolctl](https://github.com/joblib/threadpoolctl).
        user_api: Limit only `"blas"` or only `"openmp"`; None for both.

    Raises:
        MissingExtraError: threadpoolctl is not installed. Workers need it too.
        ValueError: There is no such `user_api`, or a number of threads is below 1.
        TypeError: A number of threads is no whole number.
    """

    name = "threadpoolctl-plugin"

    def __init__(self, max_threads: int | dict[str, int] | None = None, user_api: str | None = None) -> None:
        _extras.load("threadpoolctl", needs="threadpoolctl", extra="plugins")
        if user_api not in (None, "blas", "openmp"):
            raise ValueError(f"user_api={user_api!r}: must be 'blas', 'openmp', or None for both")
        if isinstance(max_threads, dict):
            max_threads = {api: check_count(f"max_threads[{api!r}]", n) for api, n in max_threads.items()}
        else:
            max_threads = check_optional_count("max_threads", max_threads)
        self.max_threads: int | dict[str, int] | None = max_threads
        self.user_api: str | None = user_api

    def pre_submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Submission | None:
        """Compute the call within the limit."""
        return Wrapper(fn, partial(_limited, self.max_threads, self.user_api)), args, kwargs

    def status(self) -> str:
        """The limit."""
        return f"threads {self.max_threads}" + (f" of {self.user_api}" if self.user_api else "")


def _limited(max_threads: int | dict[str, int] | None, user_api: str | None) -> AbstractContextManager[None]:
    if max_threads is None:
        return nullcontext()
    return _LIMITS.hold(partial(_limits, max_threads, user_api), (max_threads, user_api))


@contextmanager
def _limits(max_threads: int | dict[str, int], user_api: str | None) -> Iterator[None]:
    """Limit the loaded libraries, and those that imports load later; in the end restore all of them."""
    from threadpoolctl import ThreadpoolController, threadpool_limits

    limited: set[str] = set()
    lock = Lock()

    def limit_new() -> None:
        with lock:
            loaded = ThreadpoolController()
            new = [library.filepath for library in loaded.lib_controllers if library.filepath not in limited]
            limited.update(new)
            if new:
                libraries = loaded.select(filepath=new)
                stack.enter_context(libraries.limit(limits=max_threads, user_api=user_api))

    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(limits=max_threads, user_api=user_api))
        limited.update(library.filepath for library in ThreadpoolController().lib_controllers)
        stack.enter_context(ImportWatch(limit_new))
        yield
