"""The `__main__` of processes that a call starts: the contents of the worker's, without running the program again.

The *preparation data* of a child that `multiprocessing` starts by spawn or forkserver name the program of its parent,
which the child runs as `__mp_main__`. In a worker this would run the user's program, which may have no main guard. So
in workers, and in processes that they start, the preparation data name no program, but contain an object that installs
a module as `__main__`. The module is empty until a name is looked up in it; then it gets everything that the parent's
`__main__` had when the child was started: functions, classes, other objects defined there, and the globals that these
use.

`multiprocessing.spawn.get_preparation_data` is not documented, but all of `multiprocessing` uses it. loky has its own.
The tests notice if one of them changes.
"""

from __future__ import annotations

import functools
import io
import os
import pickle
import sys
import types
from multiprocessing import spawn
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors.process_pool._pickling import main_module

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.executors.process_pool._pickling.names import Names

    PreparationData = dict[str, Any]

PROGRAM = ("init_main_from_name", "init_main_from_path")
"""The keys of preparation data that name the program."""

LOKY = ("loky.backend.spawn", "joblib.externals.loky.backend.spawn")
"""The modules that create preparation data in loky, and in the copy within joblib."""

INSTALL = f"import sys; sys.path[:] = path; from {__name__} import install; install(own, contents, parent)"
"""Run by a child when it reads its preparation data; until then, it may not find this module."""

_contents: bytes | None = None
"""The contents that this process's `__main__` has not received yet."""


def replace() -> None:
    """From now on, let no child of this process run the program. Call this in a worker."""
    if not hasattr(spawn.get_preparation_data, "__wrapped__"):
        spawn.get_preparation_data = _without_program(spawn.get_preparation_data, brings_main=True)
    replace_of_loky()


def replace_of_loky() -> None:
    """The same for loky, if it has been imported."""
    for name in LOKY:
        module = sys.modules.get(name)
        get = getattr(module, "get_preparation_data", None)
        if module is not None and get is not None and not hasattr(get, "__wrapped__"):
            # Most of loky's processes need no `__main__`: loky sends its definitions by value.
            module.get_preparation_data = _without_program(get, brings_main=False)  # type: ignore[attr-defined]


def _without_program(get: Callable[..., PreparationData], *, brings_main: bool) -> Callable[..., PreparationData]:
    @functools.wraps(get)
    def get_preparation_data(*args: Any, **kwargs: Any) -> PreparationData:
        data = get(*args, **kwargs)
        named = [data.pop(name) for name in PROGRAM if name in data]
        if brings_main or named:
            data["amltk_main"] = _Main()
        return data

    return get_preparation_data


class _Main:
    """This process's `__main__` in the preparation data of a child; pickled when the child is started."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str, dict[str, Any]]]:
        main = sys.modules["__main__"]
        own = pickle.dumps(main_module.describe("__main__"))
        return exec, (INSTALL, {"path": sys.path[:], "own": own, "contents": _snapshot(main), "parent": os.getpid()})


def _snapshot(main: types.ModuleType) -> bytes:
    _fill(main)  # a child may start children before it has used its `__main__`
    contents = {name: value for name, value in list(vars(main).items()) if _is_defined_in_main(value)}
    whole = _pickled(contents, lambda _: True)
    return _pickle_what_can_be(contents) if whole is None else whole


def _is_defined_in_main(value: Any) -> bool:
    try:
        return getattr(value, "__module__", None) in {"__main__", "__mp_main__"}
    except Exception:  # noqa: BLE001 - an object may compute its attributes
        return False


def _pickle_what_can_be(contents: dict[str, Any]) -> bytes:
    """Leave out what cannot be pickled, even if functions use it: they may not need it."""
    values: dict[int, Any] = {}

    @functools.cache
    def can_be_pickled_by_id(number: int) -> bool:
        return _pickled(values[number], can_be_pickled) is not None

    def can_be_pickled(value: Any) -> bool:
        if isinstance(value, types.FunctionType | type | types.ModuleType):
            return True  # if not, its users are left out too
        values[id(value)] = value
        return can_be_pickled_by_id(id(value))

    usable = {name: value for name, value in contents.items() if _pickled(value, can_be_pickled) is not None}
    return _pickled(usable, can_be_pickled) or b""


def _pickled(obj: Any, takes_along: Callable[[Any], bool]) -> bytes | None:
    """Pickle an object with the globals that its functions use, if `takes_along` allows; None if that fails."""
    # Imported late: it is slow to import, and most processes start no others.
    from amltk.scheduling.executors.process_pool._pickling.by_value import ByValue

    class Snapshot(ByValue):
        def carried(self, home: str, names: Names) -> dict[str, Any]:
            present = vars(sys.modules[home])
            return {name: present[name] for name in names.globals if name in present and takes_along(present[name])}

    file = io.BytesIO()
    try:
        Snapshot(file, None, set()).dump(obj)
    except Exception:  # noqa: BLE001 - the user's objects may raise anything
        return None
    return file.getvalue()


class LateMain(types.ModuleType):
    """A `__main__` that gets its contents when a missing name is looked up."""

    parent: int

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            _fill(self)
            if name in vars(self):
                return vars(self)[name]
        raise AttributeError(
            f"module '__main__' of this process has no attribute {name!r}. It does not run the program, but has what "
            f"the `__main__` of process {self.parent} had when that started this one, as far as it can be pickled"
        )


def install(own: bytes, contents: bytes, parent: int) -> None:
    """Set up such a child, with a `__main__` that is filled later.

    Args:
        own: A pickle of the import attributes, which are set at once.
        contents: A pickle of all other contents.
        parent: The process that started this one.
    """
    global _contents  # noqa: PLW0603 - a process has one `__main__`
    _contents = contents
    main = LateMain("__mp_main__")
    main_module.fill(main, pickle.loads(own))
    main.__name__ = "__mp_main__"
    LateMain.parent = parent
    spawn.old_main_modules.append(sys.modules["__main__"])  # like `multiprocessing`, so that it stays alive
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    replace()


def _fill(main: types.ModuleType) -> None:
    global _contents
    if _contents and isinstance(main, LateMain):
        contents, _contents = _contents, None
        vars(main).update(pickle.loads(contents))
