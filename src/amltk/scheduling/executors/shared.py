"""Objects that many calls need, and that are put once where workers find them.

Where workers are on this machine, that is memory which they map, see `shared_memory`; elsewhere it is up to the
executor.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar, cast

from amltk.exceptions import SharedObjectError
from amltk.scheduling._nested import replaced

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from amltk.scheduling.executors.capabilities import Capabilities
    from amltk.scheduling.executors.process_pool._pickling.descriptor_lending import Ticket
    from amltk.scheduling.executors.shared_memory import ObjectMemory

T = TypeVar("T")

MOST_KEPT = 16
"""How many shared objects a worker keeps, at most, of those for which it cannot see whether they are still shared."""


class Source(Protocol):
    """Where a worker gets a shared object."""

    def fetch(self) -> memoryview:
        """The contents, as `shared_memory` writes them.

        Raises:
            Exception: They are gone.
        """
        ...


class Shared(Generic[T]):
    """An object that is put once where all workers find it, see `Scheduler.share`.

    As an argument of a call it stands for the object, which the function receives in its place. It may be used wherever
    a future may, also in lists, tuples and the values of dicts.

    Args:
        value: The object.
        is_here: Whether calls are given the object itself, in this process.
        has_main: Whether workers have the program's `__main__`, and the classes in it.
    """

    def __init__(self, value: T, *, is_here: bool, has_main: bool) -> None:
        self._key = _new_key()
        self._lock = threading.Lock()
        self._has_main = has_main
        self._value: T | None = value if is_here else None
        self._has_value = is_here
        self._memory: ObjectMemory | None = None if is_here else _put(value, has_main=has_main)
        self._sources: weakref.WeakKeyDictionary[Executor, Source] = weakref.WeakKeyDictionary()
        self._digest: str | None = None
        self._text = f"{type(value).__name__}"
        self._is_closed = False

    def get(self) -> T:
        """The object, in this process, as a call on the same executor would receive it.

        Raises:
            SharedObjectError: It is no longer shared.
        """
        self._check()
        if not self._has_value:
            return cast("T", receive(self._key, _InMemory(self._to_memory().ticket)))
        return cast("T", self._value)

    def as_argument(self) -> T:
        """This handle, which type checkers take for the object: `train.submit(lr, data.as_argument())`."""
        return cast("T", self)

    def close(self) -> None:
        """Stop sharing the object. May be called again.

        Calls that have it keep it until they end; those that have not begun fail with `SharedObjectError`.
        """
        with self._lock:
            self._is_closed = True
            self._value, self._has_value = None, False
            memory, self._memory = self._memory, None
            self._sources.clear()
        _received.pop(self._key, None)
        if memory is not None:
            memory.close()

    def __del__(self) -> None:
        _received.pop(getattr(self, "_key", ""), None)

    @property
    def closed(self) -> bool:
        """Whether it is no longer shared."""
        return self._is_closed

    def _check(self) -> None:
        if self._is_closed:
            raise SharedObjectError(
                f"this {self._text} is not shared any more: its handle or its scheduler was closed. Share it again, or"
                " close it later"
            )

    def _to_memory(self) -> ObjectMemory:
        with self._lock:
            self._check()
            if self._memory is None:
                self._memory = _put(self._value, has_main=self._has_main)
            return self._memory

    def for_executor(self, executor: Any, *, is_here: bool, is_elsewhere: bool) -> Any:
        """What an executor is given in place of the handle.

        Args:
            executor: The executor.
            is_here: Whether it computes in this process, with the objects themselves.
            is_elsewhere: Whether it may compute on other machines.

        Raises:
            SharedObjectError: It is no longer shared.
        """
        self._check()
        if is_here:
            return self.get()
        put: Callable[[memoryview], Source] | None = getattr(executor, "put_shared", None)
        if not is_elsewhere or put is None:
            return self
        memory = self._to_memory()
        with self._lock:
            source = self._sources.get(executor)
            if source is None:
                source = self._sources[executor] = put(memory.view())
        return Elsewhere(self._key, source)

    def digest(self) -> str:
        """What identifies it in a journal and in a memo: the same for equal contents."""
        if self._digest is None:
            from amltk.scheduling.executors.shared_memory import digest_of

            self._digest = digest_of(self.get()) if self._has_value else self._to_memory().digest()
        return self._digest

    def __reduce__(self) -> Any:
        """Unpickle as the object."""
        return receive, (self._key, _InMemory(self._to_memory().ticket))

    def __repr__(self) -> str:
        return f"<shared {self._text}{', closed' if self._is_closed else ''}>"


class Elsewhere(NamedTuple):
    """Unpickles as the object, which another library keeps."""

    key: str
    source: Source

    def __reduce__(self) -> Any:
        return receive, (self.key, self.source)


SHARED: frozenset[type] = frozenset({Shared})
"""The types of handles."""


class Here(NamedTuple):
    """Unpickles as the object, in this process."""

    key: str

    def __reduce__(self) -> Any:
        return _of_this_process, (self.key,)


_handles: weakref.WeakValueDictionary[str, Shared[Any]] = weakref.WeakValueDictionary()
"""The handles that were pickled for this process itself, by key."""


def _of_this_process(key: str) -> Any:
    handle = _handles.get(key)
    if handle is None:
        raise SharedObjectError("a shared object is not shared any more: keep its handle until it has been received")
    return handle.get()


def put_in_place(arguments: Any, executor: Executor, can: Capabilities, *, is_pickled: bool = False) -> Any:
    """Arguments with what the executor is given in place of handles.

    Args:
        arguments: A tuple or dict.
        executor: The executor.
        can: What it can do.
        is_pickled: Whether they are pickled even for calls in this process.

    Raises:
        SharedObjectError: As `Shared.for_executor`.
    """

    def opened(handle: Shared[Any]) -> Any:
        if is_pickled and can.shares_objects:
            _handles[handle._key] = handle
            handle.get()  # raises if it is closed
            return Here(handle._key)
        return handle.for_executor(executor, is_here=can.shares_objects, is_elsewhere=can.remote)

    return replaced(arguments, SHARED, opened)


class Content(NamedTuple):
    """Stands for a shared object where it is recorded: equal contents are equal."""

    digest: str

    def __repr__(self) -> str:
        return f"<shared {self.digest[:8]}>"


class _InMemory(NamedTuple):
    ticket: Ticket

    def fetch(self) -> memoryview:
        """Map it."""
        import os

        from amltk.scheduling.executors.shared_memory import map_readonly

        descriptor = self.ticket.redeem()
        try:
            return map_readonly(descriptor)
        finally:
            os.close(descriptor)


def _new_key() -> str:
    import uuid

    return uuid.uuid4().hex


def _put(value: Any, *, has_main: bool) -> ObjectMemory:
    from amltk.scheduling.executors.shared_memory import ObjectMemory  # few programs need it

    return ObjectMemory(value, has_main=has_main)


# ---------------------------------------------------------------------------------------------------- in workers

_received: dict[str, tuple[Any, memoryview]] = {}
"""The shared objects that this process has, and their contents."""

_receiving = threading.RLock()


def receive(key: str, source: Source) -> Any:
    """A shared object, which is unpickled once in each process.

    Raises:
        SharedObjectError: It is not available.
    """
    found = _received.get(key)
    if found is not None:
        return found[0]
    with _receiving:
        if key in _received:
            return _received[key][0]
        _let_go()
        from amltk.scheduling.executors.shared_memory import load

        try:
            view = source.fetch()
            value = load(view)
        except Exception as error:
            raise SharedObjectError(
                f"a shared object cannot be had in this process: {type(error).__name__}: {error}. It must be shared"
                " until the calls that need it have begun, so keep its handle, and close it later"
            ) from error
        _received[key] = value, view
        return value


def _let_go() -> None:
    """Drop those that are no longer shared."""
    import mmap

    from amltk.scheduling.executors.shared_memory import is_shared_still

    for key, (_, view) in list(_received.items()):
        if not is_shared_still(view):
            del _received[key]
    elsewhere = [key for key, (_, view) in _received.items() if not isinstance(view.obj, mmap.mmap)]
    for key in elsewhere[:-MOST_KEPT]:
        del _received[key]
