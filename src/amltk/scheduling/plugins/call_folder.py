"""The plugin that gives each call a folder of its own."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from amltk._checks import check_bool
from amltk._process.limits import reason_of
from amltk.exceptions import JournalError
from amltk.journal.folder import FILE_MODE, FOLDER_MODE, Folder
from amltk.scheduling._computing.place import within
from amltk.scheduling.plugin import PassingPlugin
from amltk.scheduling.plugins._support.keys.arguments import (
    DEFAULT_IGNORE,
    check_ignore,
    check_key,
    keys_of,
    with_arguments,
)
from amltk.scheduling.plugins.wrapping import Wrapper

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    from amltk.scheduling.call import Call
    from amltk.scheduling.plugins._support.keys.arguments import FunctionKeys
    from amltk.scheduling.task import Task

OUTPUT = "output.log"
"""The name of the file with what a call has printed."""

_MARK = ".call"
"""The name of the file, in the folder of a call, that says which call it is of."""

Capture = Literal["process", "thread"] | None


class CallFolder(PassingPlugin):
    """Gives each call a folder that stays the same over attempts and restarts: `call_folder()` within the function.

    A call that is computed again finds there what it left: after its worker was killed (with `Retry`), after a limit,
    and after the whole program was killed and started again. So a training goes on from its own checkpoint.

    The folders are `calls/0`, `calls/1` and so on. A call is recognised by its function and its arguments, as by
    `Memo`, in whatever order calls are submitted; the second call with equal arguments that a plugin sees has the
    second of their folders. With futures as arguments, calls are recognised by the results. Folders are never removed.
    One plugin may serve several tasks, and several may use one folder. Let only one program at a time use it.

    Workers on other machines need a file system that they share with this one. On an executor that is not a pool of
    this package, put `Limits` behind this plugin.

    Args:
        folder: Where they are; made if it is not there, for this user only.
        key: Called with the arguments of a call, which is recognised by what this returns; None for the arguments.
        ignore: The names of parameters, or of captured variables, that do not matter.
        capture: Whether what a call prints goes to `output.log` in its folder, each attempt behind the last one; in
            worker processes also what code in C and started programs print. In threads only what Python code prints.

    Raises:
        TypeError: An argument has a type that is not allowed. A submission raises it if one of its arguments can not be
            compared; the message names the argument.
    """

    name = "call-folder"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        key: Callable[..., Any] | None = None,
        ignore: Iterable[str] = DEFAULT_IGNORE,
        capture: bool = False,
    ) -> None:
        self.key: Callable[..., Any] | None = check_key(key)
        self.ignore: tuple[str, ...] = check_ignore(ignore)
        self.capture: bool = check_bool("capture", capture)
        self._places = _Places(Folder(folder))
        self._keys: dict[Task[..., Any], FunctionKeys] = {}
        self._numbers: dict[Call, int] = {}

    def attach_task(self, task: Task[..., Any]) -> None:
        """Give folders to the calls of this task.

        Raises:
            ValueError: Its function has no parameter of a name in `ignore`.
        """
        self._keys[task] = keys_of(task.function, self.ignore, self.key, type(self).__name__)

    def prepare(self, call: Call) -> bool:
        """Give the call its folder, unless it need not be computed.

        Raises:
            JournalError: It cannot be made.
        """
        if call.answer is not None and call.answer.done():
            return True
        place = _Place()
        call.function = Wrapper(call.function, partial(_in_place, place, self._capture(call.task)))
        call.on_end(self._end, call)
        with_arguments(call, partial(self._settle, call, place))
        return True

    def _settle(self, call: Call, place: _Place, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if call.answer is not None and call.answer.done():
            return
        number = self._numbers.get(call)
        if number is None:
            key = self._keys[call.task].key(args, kwargs).hex()
            number = self._numbers[call] = self._places.take(key)
        call.folder = self._places.path(number)
        place.path = str(call.folder)

    def _capture(self, task: Task[..., Any]) -> Capture:
        if not self.capture:
            return None
        return "thread" if task.scheduler.executor_kind.capabilities.in_process else "process"

    def _end(self, call: Call) -> None:
        if call.kept:
            return  # it comes again, and has its folder
        number = self._numbers.pop(call, None)
        if number is not None and call.future is None:
            self._places.give_back(number)

    def status(self) -> str:
        """Where the folders are."""
        return str(self._places.folder)


class _Place:
    """Where a call is computed, for its worker.

    Attributes:
        path: Its folder; empty as long as its arguments are not known.
    """

    def __init__(self) -> None:
        self.path: str = ""


class _Places:
    """The folders of calls, by what the calls are recognised by.

    Args:
        folder: The folder that they are in.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._free: dict[str, list[int]] = {}  # those of earlier sessions, the last one first
        self._keys: dict[int, str] = {}
        self._next = 0
        for number, key in sorted(_found(folder.calls), reverse=True):
            self._free.setdefault(key, []).append(number)
            self._keys[number] = key
            self._next = max(self._next, number + 1)

    def path(self, number: int) -> Path:
        """The folder of this number."""
        return self.folder.calls / str(number)

    def take(self, key: str) -> int:
        """The number of the first folder of such a call that no other call of this session has."""
        free = self._free.get(key)
        number = free.pop() if free else self._make(key)
        self._keys[number] = key
        return number

    def give_back(self, number: int) -> None:
        """Let the next such call have this folder."""
        free = self._free.setdefault(self._keys[number], [])
        free.append(number)
        free.sort(reverse=True)

    def _make(self, key: str) -> int:
        try:
            self.folder.path.parent.mkdir(parents=True, exist_ok=True)
            for path in (self.folder.path, self.folder.calls):
                path.mkdir(FOLDER_MODE, exist_ok=True)
            while not self._make_next(key):
                pass  # the calls of another task have it, for which there is a plugin with the same folder
        except OSError as error:
            raise JournalError(
                f"no folder of a call can be made in {self.folder.calls}: {reason_of(error)}. Give CallFolder a folder "
                "that this user may write"
            ) from error
        return self._next - 1

    def _make_next(self, key: str) -> bool:
        """Make the folder of the next number; False if it is there."""
        path = self.path(self._next)
        self._next += 1
        try:
            path.mkdir(FOLDER_MODE)
        except FileExistsError:
            return False
        mark = path / _MARK
        mark.touch(FILE_MODE)
        mark.write_text(key + "\n", "ascii")
        return True


def _found(calls: Path) -> Iterator[tuple[int, str]]:
    """The numbers of the folders that are there, each with its key; an empty one if it was not written to the end."""
    for path in calls.iterdir() if calls.is_dir() else ():
        if path.name.isdecimal() and path.name.isascii():
            mark = path / _MARK
            text = mark.read_text("ascii", "replace") if mark.exists() else ""
            yield int(path.name), text.rstrip("\n") if text.endswith("\n") else ""


@contextmanager
def _in_place(assigned: _Place, capture: Capture) -> Iterator[None]:
    """Compute a call in its folder. In the worker."""
    from amltk.scheduling.plugins._support.capture import output_of_process, output_of_thread

    place = Path(assigned.path)
    with within(place):
        if capture is None:
            yield
        else:
            with (output_of_process if capture == "process" else output_of_thread)(place / OUTPUT):
                yield
