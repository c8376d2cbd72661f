"""How individual objects are reduced for pickling."""

from __future__ import annotations

import copyreg
import functools
import io
import pickle
import typing
import weakref
from typing import Any

import pytest

from amltk.scheduling.executors.process_pool._pickling.by_value import ByValue
from amltk.scheduling.executors.process_pool._pickling.reducers import reduce_class, source_of


class Base:
    """A class with all the usual parts."""

    __slots__ = ("__weakref__", "x")

    class Inner:
        """Its qualified name has a dot."""


def there_and_back(obj: Any) -> Any:
    """Pickle by value and unpickle in this process."""
    file = io.BytesIO()
    ByValue(file, None, set()).dump(obj)
    return pickle.loads(file.getvalue())


def local_function() -> Any:
    def local(x: int = 1) -> int:
        return x

    return local


def test_a_class_keeps_its_qualified_name() -> None:
    """A class keeps its qualified name; otherwise its instances could not be found by name when they come back."""
    _, (_, _, _, namespace, *_), *_ = reduce_class(Base.Inner)
    assert namespace["__qualname__"] == "Base.Inner"


def test_code_keeps_its_file_and_lines() -> None:
    """Code keeps its file and line numbers, which cloudpickle 3.1.3 and later lose."""
    function = local_function()
    back = there_and_back(function)
    assert back is not function
    for name in ("co_filename", "co_firstlineno", "co_qualname", "co_linetable"):
        assert getattr(back.__code__, name) == getattr(function.__code__, name)
    assert (back.__annotations__, back(), back.__module__) == ({"x": "int", "return": "int"}, 1, __name__)


def name_of(name: str) -> str:
    return f"the function {name}"


def test_a_reducer_of_the_user_is_preferred_to_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered with `copyreg` is used for built-in functions as well, which pickle else finds by name."""
    assert there_and_back(len) is len
    monkeypatch.setitem(copyreg.dispatch_table, type(len), lambda fn: (name_of, (fn.__name__,)))
    assert there_and_back([len]) == ["the function len"]


def test_lines_of_a_file_that_is_there_do_not_travel() -> None:
    """The source of an existing file is not sent: a worker reads it itself."""
    assert source_of(local_function().__code__) is None


@pytest.mark.parametrize("maxsize", [None, 2])
def test_a_cache_of_a_local_function(maxsize: int | None) -> None:
    """A local cached function is created again, empty, with its size and its attributes."""
    cached = functools.lru_cache(maxsize=maxsize, typed=True)(local_function())
    cached.note = "kept"  # type: ignore[attr-defined]
    cached(1)
    back = there_and_back(cached)
    assert back.cache_parameters() == {"maxsize": maxsize, "typed": True}
    assert (back(3), back.note, back.__qualname__, back.cache_info().misses) == (3, "kept", cached.__qualname__, 1)


def test_a_local_dispatcher() -> None:
    """A local dispatcher is created again with all its registrations."""
    dispatcher = functools.singledispatch(local_function())
    dispatcher.register(str, str.upper)
    back = there_and_back(dispatcher)
    assert (back(1), back("a"), back.__name__) == (1, "A", "local")


def test_local_type_parameters() -> None:
    """Local type parameters keep their bounds and their module."""
    parameter = typing.TypeVar("parameter", bound=int)
    back = there_and_back(parameter)
    assert (back.__bound__, back.__module__) == (int, __name__)
    constrained = there_and_back(typing.TypeVar("constrained", int, str))
    assert constrained.__constraints__ == (int, str)


def test_weak_dictionaries() -> None:
    """The values of a weak dictionary are sent, and dropped if nothing else references them."""
    key = Base()
    key_there, weak = there_and_back((key, weakref.WeakKeyDictionary({key: 1})))
    assert dict(weak) == {key_there: 1}
