"""Exceptions survive the way back intact: type, arguments, attributes, causes, members and notes."""

from __future__ import annotations

import copyreg
import pickle
import threading
import traceback
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from amltk.exceptions import RemoteError, RemoteTraceback, TaskLimitError
from amltk.scheduling.executors._transfer.failure import Failure, describe, restore, stand_in
from amltk.scheduling.executors.remote.pickling import pickle_part


def fail(error: BaseException) -> None:
    raise error


def raised(error: BaseException) -> BaseException:
    try:
        fail(error)
    except BaseException as caught:
        return caught
    raise AssertionError


def failure_of(error: BaseException) -> Failure:
    return pickle.loads(pickle.dumps(describe(raised(error), pickle_part)))


def there_and_back(error: BaseException) -> Any:
    return restore(failure_of(error), "raised by a test")


class HTTPFailed(Exception):
    made = 0

    def __init__(self, url: str, *, status: int) -> None:
        type(self).made += 1
        super().__init__(f"{url} answered {status}")
        self.url = url
        self.status = status


class TakesNothing(Exception):
    def __init__(self) -> None:
        super().__init__("made from", "nothing")


class Slotted(Exception):
    __slots__ = ("code", "missing")

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


class Validates(ValueError):
    def __init__(self, number: int) -> None:
        if not isinstance(number, int):
            raise TypeError("a number, please")
        super().__init__(f"{number} is bad")
        self.number = number


class OwnNew(Exception):
    def __new__(cls, *, text: str) -> OwnNew:
        self = super().__new__(cls, text)
        self.text = text  # type: ignore[attr-defined]
        return self

    def __init__(self, *, text: str) -> None:
        pass


class Missing(FileNotFoundError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "no such data", path)
        self.path = path


class Both(HTTPFailed, OSError):
    """Its C state is that of the second base."""


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


class KeepsReduce(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")
        self.pair = one, two

    def __reduce__(self) -> Any:
        return type(self), self.pair


class RaisesInReduce(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("never")


class WrongReduce(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("two things")
        self.one, self.two = one, two

    def __reduce__(self) -> Any:
        return type(self), (1,)


class Failures(ExceptionGroup[Exception]):
    def __new__(cls, message: str, errors: list[Exception], *, where: str) -> Failures:
        self = super().__new__(cls, message, errors)
        self.where = where
        return self

    def __init__(self, message: str, errors: list[Exception], *, where: str) -> None:
        super().__init__(message, errors)

    where: str


class StrangeText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def state(error: BaseException) -> Any:
    return type(error), error.args, {key: value for key, value in vars(error).items() if key != "__notes__"}


@pytest.mark.parametrize(
    "error",
    [
        ValueError("plain"),
        HTTPFailed("http://x", status=503),
        TakesNothing(),
        Validates(3),
        OwnNew(text="of its own"),
        Frozen(7),
        KeepsReduce(1, 2),
        RaisesInReduce("anyway"),
        WrongReduce(1, 2),
        Both("http://x", status=1),
        StrangeText("x"),
        TaskLimitError("too much", limit=1.0, used=2.0),
        KeyboardInterrupt(),
        SystemExit(3),
        KeyError("key"),
        pickle.PicklingError("x"),
        BaseException(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_comes_back_as_itself(error: BaseException) -> None:
    """An exception keeps its type, its arguments and its attributes."""
    assert state(there_and_back(error)) == state(error)


def test_nothing_that_a_class_does_at_birth_is_done_again() -> None:
    """`__init__` is not called again, in the worker or in the driver."""
    error = HTTPFailed("http://x", status=503)
    made = HTTPFailed.made
    assert str(there_and_back(error)) == "http://x answered 503"
    assert HTTPFailed.made == made


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (FileNotFoundError(2, "nothing", "/there"), ("errno", "strerror", "filename", "filename2")),
        (OSError("only a text"), ("errno", "strerror", "filename")),
        (OSError(18, "across", "a", None, "b"), ("errno", "filename", "filename2")),
        (BlockingIOError(11, "full", 5), ("errno", "characters_written")),
        (Missing("/there"), ("errno", "strerror", "filename", "path")),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad byte"), ("encoding", "object", "start", "end", "reason")),
        (UnicodeEncodeError("ascii", "ü", 0, 1, "bad"), ("encoding", "object", "start", "end", "reason")),
        (StopIteration(7), ("value",)),
        (SystemExit(3), ("code",)),
        (SyntaxError("bad", ("f.py", 3, 4, "x = \n")), ("msg", "filename", "lineno", "offset", "text")),
        (ImportError("none", name="mod", path="/mod"), ("msg", "name", "path")),
        (AttributeError("none", name="attr"), ("name",)),
        (NameError("none", name="var"), ("name",)),
        (Slotted(4), ("code",)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_c_and_slots_keep_of_an_exception_comes_back(error: BaseException, names: tuple[str, ...]) -> None:
    """Fields outside `__dict__` survive, and the text made from them."""
    back = there_and_back(error)
    assert type(back) is type(error)
    assert [getattr(back, name) for name in names] == [getattr(error, name) for name in names]
    assert str(back) == str(error)
    assert not hasattr(back, "missing")


def test_causes_and_contexts_come_back() -> None:
    """The whole chain of causes and contexts arrives, ending with the worker's traceback."""
    error, cause, root = Slotted(1), HTTPFailed("http://x", status=1), KeyError("first")
    cause.__cause__, error.__cause__, error.__context__ = root, cause, Slotted(2)
    back = there_and_back(error)
    assert state(back.__cause__) == state(cause)
    assert state(back.__cause__.__cause__) == state(root)
    assert back.__context__.code == 2
    last = back.__cause__.__cause__.__cause__
    assert isinstance(last, RemoteTraceback)
    assert "KeyError: 'first'" in last.tb
    assert "in fail" in last.tb
    assert "in fail" in "".join(traceback.format_exception(back))


@pytest.mark.parametrize("suppress", [True, False])
def test_from_none_stays(suppress: bool) -> None:
    """Suppression of the context is preserved; the cause is the worker's traceback."""
    error = ValueError()
    error.__context__, error.__suppress_context__ = KeyError("context"), suppress
    back = there_and_back(error)
    assert back.__suppress_context__ is suppress
    assert repr(back.__context__) == "KeyError('context')"
    assert isinstance(back.__cause__, RemoteTraceback)


def test_a_circle_of_causes_comes_back() -> None:
    """Exceptions that refer to each other, including through attributes, are sent once."""
    one, two = HTTPFailed("one", status=1), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    one.others = [two, one]  # type: ignore[attr-defined]
    back = there_and_back(one)
    assert back.__cause__.__cause__ is back
    assert back.others == [back.__cause__, back]


def test_a_long_chain_comes_back() -> None:
    """A chain longer than the recursion limit arrives."""
    error: BaseException = HTTPFailed("last", status=0)
    for n in range(5000):
        above = HTTPFailed("x", status=n)
        above.__context__ = error
        error = above
    back = there_and_back(error)
    for _ in range(5000):
        back = back.__context__
    assert back.url == "last"


def test_groups_come_back() -> None:
    """Groups may contain groups and custom classes; a member may refer to its group."""
    member = HTTPFailed("http://x", status=503)
    inner = Failures("inner", [member, ValueError(1)], where="here")
    group = ExceptionGroup("outer", [inner, KeyError(2)])
    member.__context__ = group
    inner.add_note("a note")
    back = there_and_back(group)
    assert type(back) is ExceptionGroup
    assert back.message == "outer"
    assert isinstance(back.exceptions[0], Failures)
    assert back.exceptions[0].where == "here"
    assert back.exceptions[0].__notes__ == ["a note"]
    assert state(back.exceptions[0].exceptions[0]) == state(member)
    assert back.exceptions[0].exceptions[0].__context__ is back
    assert back.split(HTTPFailed)[0] is not None
    assert type(there_and_back(BaseExceptionGroup("base", [SystemExit(1)]))) is BaseExceptionGroup


def test_an_exception_in_an_attribute_or_argument_comes_back() -> None:
    """An exception in an attribute or an argument arrives, even if its `__init__` takes other arguments."""
    error = RuntimeError("failed", HTTPFailed("http://x", status=3))
    error.original = HTTPFailed("http://y", status=4)  # type: ignore[attr-defined]
    back = there_and_back(error)
    assert back.args[1].status == 3
    assert back.original.status == 4


def test_notes_come_back() -> None:
    """Existing notes are kept, even for classes with `__reduce__`, followed by one that says where it was raised."""
    for error in (HTTPFailed("http://x", status=1), KeepsReduce(1, 2)):
        error.add_note("first")
        assert there_and_back(error).__notes__ == ["first", "raised by a test"]


def test_what_cannot_travel_is_left_out_and_noted() -> None:
    """An attribute, an argument or a field that cannot be pickled loses only itself."""
    error = HTTPFailed("http://x", status=5)
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    error.args = ("text", threading.Lock())
    error.__cause__ = Slotted(threading.Lock())  # type: ignore[arg-type]
    back = there_and_back(error)
    assert (type(back), back.url, back.status, back.args[0]) == (HTTPFailed, "http://x", 5, "text")
    assert "lock object" in back.args[1]
    assert not hasattr(back, "lock")
    assert [note.partition(",")[0] for note in back.__notes__] == [
        "left out in transit: args[1]",
        "left out in transit: lock",
        "raised by a test",
    ]
    assert type(back.__cause__) is Slotted
    assert not hasattr(back.__cause__, "code") or back.__cause__.code is None
    assert "code" in back.__cause__.__notes__[0]


class OnlyThere:
    def __reduce__(self) -> Any:
        return fail_here, ()


def fail_here() -> None:
    raise LookupError("not here")


def test_attributes_that_cannot_be_unpickled_cost_only_themselves() -> None:
    """If attributes cannot be unpickled, the type and the text stay."""
    error = HTTPFailed("http://x", status=5)
    error.only_there = OnlyThere()  # type: ignore[attr-defined]
    back = there_and_back(error)
    assert type(back) is HTTPFailed
    assert str(back) == "http://x answered 5"
    assert "not here" in back.__notes__[0]


def test_a_class_that_is_not_here_is_described() -> None:
    """If the class cannot be sent, a `RemoteError` has its name, its text, the reason, and the traceback."""
    lock = threading.Lock()

    class Local(Exception):
        def method(self) -> Any:
            return lock

    error = ValueError("known")
    error.__cause__ = Local("of the cause")
    back = there_and_back(error)
    assert type(back) is ValueError
    assert type(back.__cause__) is RemoteError
    assert "Local: of the cause" in str(back.__cause__)
    assert "lock" in str(back.__cause__)
    assert isinstance(there_and_back(Local("itself")).__cause__, RemoteTraceback)


def test_a_local_class_is_the_same_class() -> None:
    """A local class stays the same class, so `except` and policies recognise it."""

    class Local(Exception):
        def __init__(self, *, code: int) -> None:
            self.code = code

    back = there_and_back(Local(code=3))
    assert type(back) is Local
    assert back.code == 3


def test_a_registered_reduction_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `copyreg` registers for a class is used, as pickle does."""
    monkeypatch.setitem(copyreg.dispatch_table, Slotted, lambda error: (Slotted, (error.code + 1,)))
    assert there_and_back(Slotted(1)).code == 2


def test_what_is_registered_for_every_exception_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reduction for every exception, as tblib's when Dask is imported, is ignored: it would lose state."""

    def reduce_any(error: BaseException) -> Any:
        return type(error), error.args, {"cause": error.__cause__}

    for cls in (BaseException, Exception, NameError, Slotted):
        monkeypatch.setitem(copyreg.dispatch_table, cls, reduce_any)
    assert there_and_back(Slotted(3)).code == 3
    assert there_and_back(NameError("no", name="var")).name == "var"


def test_a_stand_in_has_name_text_and_traceback() -> None:
    """A stand-in, used as the reason of another error, has the name, text and traceback."""
    failure = failure_of(StrangeText("x"))
    error = stand_in(failure)
    assert "StrangeText: <its __str__ raised RuntimeError('no text')>" in str(error)
    assert "in fail" in str(error.__cause__)
    assert (failure.name.rpartition(".")[2], failure.text[:8]) == ("StrangeText", "<its __s")


def test_an_exception_that_lets_nobody_change_it_comes_back() -> None:
    """A frozen exception still gets its cause and its note."""
    back = there_and_back(Frozen(3))
    assert back == Frozen(3)
    assert isinstance(back.__cause__, RemoteTraceback)


def test_what_an_exception_is_made_of_may_be_shared() -> None:
    """An object shared by two attributes is still shared afterwards."""
    error = HTTPFailed("http://x", status=1)
    error.one = error.two = partial(pow, 2)  # type: ignore[attr-defined]
    back = there_and_back(error)
    assert back.one is back.two
    assert back.one(3) == 8
