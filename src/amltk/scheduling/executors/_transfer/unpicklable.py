"""Finds what in a call or result cannot be pickled, and where it is. Used only after pickling has failed.

Pickle names only the type of what it could not pickle. Here the objects that a pickler visits are visited again, the
nearest first: containers, attributes, and for functions sent by value their closures and the globals that they use. The
message names the first one that cannot be taken apart.
"""

from __future__ import annotations

import dis
import io
import pickle
import sys
from collections import deque
from functools import partial
from itertools import islice
from types import CellType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk._notes import add_note, safe_repr
from amltk._process.limits import no_memory_to_pickle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    MakePickler: TypeAlias = Callable[[io.BytesIO], Any]
    """Creates a pickler like the one that failed, of cloudpickle's kind."""

    Inside: TypeAlias = Iterator[tuple["Place", Any]]
    """The contents of an object, each with its place."""

MAX_OBJECTS = 100_000
"""How many objects are visited at most, so that the answer is worth the time."""

_ATOMS = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, type(...), ModuleType, CodeType, pickle.PickleBuffer}
)
"""Types that can be pickled and contain nothing."""

_OURS = frozenset({*sys.stdlib_module_names, "amltk", "cloudpickle"})
"""Packages that raise for lack of a way to pickle. An error raised anywhere else comes from a method of an object."""


_SHARED_BY_PROCESSES = {f"multiprocessing.{name}" for name in ("heap", "queues", "sharedctypes", "synchronize")}


class Place(NamedTuple):
    """A description of where an object is.

    Attributes:
        text: The place as written in a program: `args[1].model`.
        kind: The kind of its first name if that is not an argument: `global ` or `variable `.
        origin: Where that name is defined.
    """

    text: str
    kind: str = ""
    origin: str = ""

    def step(self, step: str) -> Place:
        """The place of something inside it."""
        return self._replace(text=self.text + step)

    def __str__(self) -> str:
        return f"{self.kind}{self.text}{self.origin}"


class Culprit(NamedTuple):
    """An object that cannot be pickled, its place, and the error."""

    place: Place
    obj: Any
    error: BaseException


# ------------------------------------------------------------------------------------------------- messages for users


def explain_call(
    error: BaseException, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], make_pickler: MakePickler
) -> BaseException:
    """The error for a call that could not be pickled: a `TypeError` that names the culprit, with `error` as its cause.

    An exception raised by a method of the user's stays as it is, with a note that names the object.
    """
    roots = [("fn", fn)]
    roots += [(f"args[{n}]", arg) for n, arg in enumerate(args)]
    roots += [(f"kwargs[{name!r}]", arg) for name, arg in kwargs.items()]
    return explain(error, roots, make_pickler, "to a worker process")


def explain_result(error: BaseException, result: Any, make_pickler: MakePickler) -> BaseException:
    """The same for the result of a call."""
    return explain(error, [("result", result)], make_pickler, "back from its worker process")


def explain(
    error: BaseException, roots: Iterable[tuple[str, Any]], make_pickler: MakePickler, whither: str
) -> BaseException:
    """The same for any named objects."""
    if not isinstance(error, Exception):
        return error
    if isinstance(error, MemoryError):  # no search for the culprit, which needs as much memory
        return error if error.args else no_memory_to_pickle(whither)
    culprit = find(roots, make_pickler)
    if culprit is None:
        return error
    if _is_said_by_the_object(culprit.error) and type(culprit.error) is type(error):
        add_note(error, f"cannot send {culprit.place}, {_a(culprit.obj)}, {whither}")
        return error
    refusal = TypeError(
        f"cannot send {culprit.place}, {_a(culprit.obj)}, {whither}: it cannot be pickled"
        f" ({_in_words(culprit.error)}); {_remedy(culprit.obj)}"
    )
    refusal.__cause__ = error
    return refusal


def _is_said_by_the_object(error: BaseException) -> bool:
    """Whether it was raised deliberately, and not just for lack of a way to pickle the object."""
    if isinstance(error, TypeError) or error.__traceback__ is None:
        return False
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    module = str(last.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] not in _OURS


def _in_words(error: BaseException) -> str:
    try:
        return f"{error}" or type(error).__name__
    except Exception:  # noqa: BLE001 - the user's own __str__ failed
        return safe_repr(error)


def _a(obj: Any) -> str:
    """Its type, with an article."""
    cls = type(obj)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def _remedy(obj: Any) -> str:
    module, name = type(obj).__module__, type(obj).__name__
    if isinstance(obj, io.IOBase):
        return "send the path, and open the file where it is used"
    if module in {"multiprocessing.connection", "socket"}:
        return "only the pool of with_processes() can send it, and only while it is open"
    if module in _SHARED_BY_PROCESSES:
        return (
            'make it with multiprocessing.get_context("forkserver") and pass it to the initializer of with_processes, '
            "as initargs; or use that of a multiprocessing.Manager(), which can be sent anywhere"
        )
    if name in {"generator", "async_generator"}:
        return "send a list of the items it yields, or what it is created from"
    if name == "coroutine":
        return "only plain functions can be computed in another process"
    return "create it where it is used, or leave it out in `__getstate__` of its owner; with threads nothing is pickled"


# --------------------------------------------------------------------------------------------------- the search


def find(roots: Iterable[tuple[str, Any]], make_pickler: MakePickler) -> Culprit | None:
    """The nearest object that cannot be pickled; None if all can be.

    Args:
        roots: The named objects to search.
        make_pickler: Creates the pickler to search with.
    """
    roots = list(roots)
    visit = _Visit(make_pickler(io.BytesIO()))
    for name, obj in roots:
        visit.add(Place(name), obj)
    culprit = visit.search()
    if culprit is None:  # nested too deeply, or in a way unknown here
        for name, obj in roots:
            try:
                make_pickler(io.BytesIO()).dump(obj)
            except BaseException as error:  # noqa: BLE001 - this is the answer
                return Culprit(Place(name), obj, error)
    return culprit


class _Visit:
    """Visits objects as a pickler does."""

    def __init__(self, pickler: Any) -> None:
        self._pickler = pickler
        self._waiting: deque[tuple[Place, Any]] = deque()
        self._seen: dict[int, Any] = {}  # keeps the objects alive, so that ids stay unique

    def add(self, place: Place, obj: Any) -> None:
        """Add an object to visit."""
        if type(obj) not in _ATOMS:
            self._waiting.append((place, obj))

    def search(self) -> Culprit | None:
        """The first object that cannot be taken apart."""
        while self._waiting and len(self._seen) < MAX_OBJECTS:
            place, obj = self._waiting.popleft()
            if id(obj) in self._seen:
                continue
            self._seen[id(obj)] = obj
            try:
                for found in islice(self._inside(place, obj), MAX_OBJECTS):
                    self.add(*found)
            except BaseException as error:  # noqa: BLE001 - this is the answer
                return Culprit(place, obj, error)
        return None

    def _inside(self, place: Place, obj: Any) -> Inside:
        inside = _INSIDE.get(type(obj))
        if inside is not None:
            return inside(place, obj)
        if isinstance(obj, FunctionType | type) and self._pickler.reducer_override(obj) is NotImplemented:
            return iter(())  # it is sent by name
        return _in_function(place, obj) if isinstance(obj, FunctionType) else self._in_object(place, obj)

    def _reduce(self, obj: Any) -> Any:
        reduced = self._pickler.reducer_override(obj)
        if reduced is not NotImplemented:
            return reduced
        rule = self._pickler.dispatch_table.get(type(obj))
        return obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL) if rule is None else rule(obj)

    def _in_object(self, place: Place, obj: Any) -> Inside:
        """The contents of an object that defines its own pickling."""
        reduced = self._reduce(obj)
        if isinstance(reduced, str):
            pickle.dumps(obj)  # raises unless the name exists
            return
        make, args, *rest = reduced
        state, items, pairs = (*rest, None, None, None)[:3]
        names = {id(value): f".{name}" for name, value in _attributes(obj)}
        yield place.step(names.get(id(make), ".__reduce_ex__(5)[0]")), make
        for n, value in enumerate(args):
            yield place.step(names.get(id(value), f".__reduce_ex__(5)[1][{n}]")), value
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                for key, value in part.items():
                    yield place.step(names.get(id(value), f".{key}" if isinstance(key, str) else f"[{key!r}]")), value
            else:
                yield place.step(names.get(id(part), ".__getstate__()")), part
        for n, value in enumerate(items or ()):
            yield place.step(f"[{n}]"), value
        for key, value in pairs or ():
            yield place.step(f"[{safe_repr(key)}]"), value


def _attributes(obj: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of an object, so that a place is described as in code."""
    for name in ("__class__", "__self__", *getattr(type(obj), "_fields", ()), *_slots(type(obj))):
        try:
            yield name, object.__getattribute__(obj, name)
        except AttributeError:
            continue
    yield from getattr(obj, "__dict__", {}).items()


def _slots(cls: type) -> Iterator[str]:
    for base in cls.__mro__:
        for name, descriptor in vars(base).items():
            if isinstance(descriptor, MemberDescriptorType):
                yield name


def _in_function(place: Place, function: FunctionType) -> Inside:
    """The contents of a function that is sent by value."""
    name = function.__qualname__
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield Place(variable, "variable ", f" in the closure of {name}"), cell
    for used in dict.fromkeys(_globals_of(function.__code__)):
        if used in function.__globals__:
            origin = f" of {function.__globals__.get('__name__', function.__module__)}, used by {name}"
            yield Place(used, "global ", origin), function.__globals__[used]
    for attribute in ("__defaults__", "__kwdefaults__", "__dict__"):
        yield place.step(f".{attribute}"), getattr(function, attribute)


def _globals_of(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals_of(constant)


def _in_sequence(place: Place, obj: Any) -> Inside:
    return ((place.step(f"[{n}]"), value) for n, value in enumerate(obj) if type(value) not in _ATOMS)


def _in_set(place: Place, obj: Any) -> Inside:
    return ((place.step("{...}"), value) for value in obj if type(value) not in _ATOMS)


def _in_dict(place: Place, obj: dict[Any, Any]) -> Inside:
    for key, value in obj.items():
        if type(value) not in _ATOMS:
            yield place.step(f"[{safe_repr(key)}]"), value
        if type(key) not in _ATOMS:
            yield place.step(f"{{{safe_repr(key)}}}"), key


def _in_method(place: Place, obj: MethodType) -> Inside:
    yield place.step(".__self__"), obj.__self__
    yield place.step(".__func__"), obj.__func__


def _in_partial(place: Place, obj: partial[Any]) -> Inside:
    for name in ("func", "args", "keywords", "__dict__"):
        yield place.step(f".{name}"), getattr(obj, name)


def _in_cell(place: Place, obj: CellType) -> Inside:
    try:
        yield place, obj.cell_contents
    except ValueError:
        return  # the cell is empty


_INSIDE: dict[type, Callable[[Place, Any], Inside]] = {
    list: _in_sequence,
    tuple: _in_sequence,
    set: _in_set,
    frozenset: _in_set,
    dict: _in_dict,
    MethodType: _in_method,
    partial: _in_partial,
    CellType: _in_cell,
}
