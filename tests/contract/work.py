"""The functions computed in the contract tests: importable, so that every executor can run them."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from pathlib import Path
from typing import Any, NoReturn

from tests.helpers.arrays import Array


def double(x: Any) -> Any:
    return x * 2


def echo(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def call(fn: Any, *args: Any) -> Any:
    return fn(*args)


def token() -> str:
    """Return a new token for each call."""
    return uuid.uuid4().hex


def touch(path: Path) -> None:
    path.touch()


def raise_it(error: BaseException) -> NoReturn:
    raise error


def where() -> tuple[int, int]:
    """The process and the thread that compute this."""
    return os.getpid(), threading.get_ident()


def die(how: str) -> NoReturn:
    """Kill the whole process."""
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def play(act: str, *, comm: Any = None) -> str:
    """Send a message if there is a comm, then do what is asked."""
    if comm is not None:
        with comm.open():
            comm.send(act)
    if act == "raise":
        raise ValueError(act)
    if act == "die":
        die("kill")
    return "played"


def fail_at_first(how: str, folder: Path, times: int) -> int:
    """Fail this many times, counted in a folder; then return how often it failed."""
    failed = len(list(folder.iterdir()))
    if failed < times:
        (folder / str(failed)).touch()
        play(how)
    return failed


def burn() -> None:
    """Use the CPU until killed."""
    while True:
        pass


def hoard() -> None:
    """Allocate memory piece by piece until killed."""
    held = []
    while True:
        held.append(b"x" * 20_000_000)


def make_closure(y: int) -> Any:
    def add_y(x: int) -> int:
        return x + y

    return add_y


def make_lock() -> threading.Lock:
    """A result that cannot be pickled."""
    return threading.Lock()


class LockedError(Exception):
    """An exception that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


def raise_with_lock() -> NoReturn:
    raise LockedError


class TwoPartError(Exception):
    """An exception that can be pickled but not unpickled: a common mistake of libraries."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left} and {right}")


def raise_two_part() -> NoReturn:
    raise TwoPartError(1, 2)


class StubbornError(BaseException):
    """An exception that is not an `Exception`."""


class FancyError(ValueError):
    """An exception with state of its own."""

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Unhelpful:
    """A value that supports no operation, like a NumPy array."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __bool__(self) -> bool:
        raise AssertionError("tested")

    def __len__(self) -> int:
        raise AssertionError("measured")

    def __repr__(self) -> str:
        raise AssertionError("shown")

    __hash__ = None  # type: ignore[assignment]


class Adder:
    """A callable object that also has a method."""

    def __init__(self, y: int) -> None:
        self.y = y

    def __call__(self, x: int) -> int:
        return x + self.y

    def add(self, x: int) -> int:
        return x + self.y


def look_at(*args: Any, **kwargs: Any) -> list[tuple[int, int, int, int, bool]]:
    """The location, size and sum of each array among the arguments, and whether it is writeable."""
    found: list[Any] = []
    inner: list[Any] = [args, kwargs]
    while inner:
        one = inner.pop()
        if isinstance(one, Array):
            found.append(one)
        elif isinstance(one, dict):
            inner.extend(one.values())
        elif isinstance(one, list | tuple):
            inner.extend(one)
    return [(os.getpid(), id(one), one.data.nbytes, sum(one.data), one.data.readonly) for one in found]
