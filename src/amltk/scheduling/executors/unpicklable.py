"""Says what in a call or a result cannot be pickled, and where it is. Asked only after pickling has failed.

Pickle names the type of what it could not pickle, and nothing else. Here the objects that a pickler visits are visited
once more, the nearest first: containers, attributes, and for functions that travel by value what their closures and the
globals that they use hold. The first one that cannot be taken apart is what the message names.
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    MakePickler: TypeAlias = Callable[[io.BytesIO], Any]
    """Makes a pickler like the one that has failed, of the kind that cloudpickle has."""

    Inside: TypeAlias = Iterator[tuple["Place", Any]]
    """What is in an object, each with its place."""

MOST = 100_000
"""Objects that are looked at, so that the answer does not take longer than the question is worth."""

_ATOMS = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, type(...), ModuleType, CodeType, pickle.PickleBuffer}
)
"""What can be pickled, and has nothing in it."""

_OURS = frozenset({*sys.stdlib_module_names, "amltk", "cloudpickle"})
"""The packages that say no for want of a way; whoever else raises something has said so in a method of an object."""


_SHARED_BY_PROCESSES = {f"multiprocessing.{name}" for name in ("heap", "queues", "sharedctypes", "synchronize")}


class Place(NamedTuple):
    """Where an object is, in words.

    Attributes:
        text: As one would write it in a program: `args[1].model`.
        kind: What its first name is, if it is no argument: `global ` or `variable `.
        origin: Whose name that is.
    """

    text: str
    kind: str = ""
    origin: str = ""

    def step(self, step: str) -> Place:
        """The place of something in it."""
        return self._replace(text=self.text + step)

    def __str__(self) -> str:
        return f"{self.kind}{self.text}{self.origin}"


class Culprit(NamedTuple):
    """What cannot be pickled, where it is, and what was raised for it."""

    place: Place
    obj: Any
    error: BaseException


# ------------------------------------------------------------------------------------------------- what users are told


def explain_call(
    error: BaseException, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], make_pickler: MakePickler
) -> BaseException:
    """The error for a call that could not be pickled: a `TypeError` that names what could not, and `error` its cause.

    What a method of the user's own has raised stays what it is, with a note that names the object.
    """
    roots = [("fn", fn)]
    roots += [(f"args[{n}]", arg) for n, arg in enumerate(args)]
    roots += [(f"kwargs[{name!r}]", arg) for name, arg in kwargs.items()]
    return explain(error, roots, make_pickler, "to a worker process")


def explain_result(error: BaseException, result: Any, make_pickler: MakePickler) -> BaseException:
    """The same for what a call has returned."""
    return explain(error, [("result", result)], make_pickler, "back from its worker process")


def explain(
    error: BaseException, roots: Iterable[tuple[str, Any]], make_pickler: MakePickler, whither: str
) -> BaseException:
    """The same for any objects, each with its name."""
    if not isinstance(error, Exception):
        return error
    culprit = find(roots, make_pickler)
    if culprit is None:
        return error
    if _is_said_by_the_object(culprit.error) and type(culprit.error) is type(error):
        add_note(error, f"it is {culprit.place}, {_a(culprit.obj)}, that cannot be sent {whither}")
        return error
    refusal = TypeError(
        f"cannot send {culprit.place}, {_a(culprit.obj)}, {whither}: it cannot be pickled"
        f" ({_in_words(culprit.error)}); {_remedy(culprit.obj)}"
    )
    refusal.__cause__ = error
    return refusal


def _is_said_by_the_object(error: BaseException) -> bool:
    """Whether it was raised on purpose, and is not one more way to say that there is no way."""
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
    except Exception:  # noqa: BLE001 - of the user's own __str__
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
        return "only the pool of with_processes can send it, and only while it is open"
    if module in _SHARED_BY_PROCESSES:
        return (
            'make it with multiprocessing.get_context("forkserver") and give it to the initializer of with_processes, '
            "as initargs; or use that of a multiprocessing.Manager(), which travels anywhere"
        )
    if name in {"generator", "async_generator"}:
        return "send a list of what it yields, or what it is made of"
    if name == "coroutine":
        return "only plain functions can be computed elsewhere"
    return (
        "make it where it is used, or leave it out in `__getstate__` of what holds it; with threads nothing is pickled"
    )


# --------------------------------------------------------------------------------------------------- how it is found


def find(roots: Iterable[tuple[str, Any]], make_pickler: MakePickler) -> Culprit | None:
    """The nearest object that cannot be pickled; None if each can be.

    Args:
        roots: Names, and the objects that they have.
        make_pickler: See there.
    """
    roots = list(roots)
    visit = _Visit(make_pickler(io.BytesIO()))
    for name, obj in roots:
        visit.add(Place(name), obj)
    culprit = visit.search()
    if culprit is None:  # nested too deeply, or none of the ways that are known here
        for name, obj in roots:
            try:
                make_pickler(io.BytesIO()).dump(obj)
            except BaseException as error:  # noqa: BLE001 - it is the answer
                return Culprit(Place(name), obj, error)
    return culprit


class _Visit:
    """Looks at objects as a pickler does."""

    def __init__(self, pickler: Any) -> None:
        self._pickler = pickler
        self._waiting: deque[tuple[Place, Any]] = deque()
        self._seen: dict[int, Any] = {}  # with the objects, so that an id stays theirs

    def add(self, place: Place, obj: Any) -> None:
        """Have an object looked at."""
        if type(obj) not in _ATOMS:
            self._waiting.append((place, obj))

    def search(self) -> Culprit | None:
        """The first of them that cannot be taken apart."""
        while self._waiting and len(self._seen) < MOST:
            place, obj = self._waiting.popleft()
            if id(obj) in self._seen:
                continue
            self._seen[id(obj)] = obj
            try:
                for found in islice(self._inside(place, obj), MOST):
                    self.add(*found)
            except BaseException as error:  # noqa: BLE001 - it is the answer
                return Culprit(place, obj, error)
        return None

    def _inside(self, place: Place, obj: Any) -> Inside:
        inside = _INSIDE.get(type(obj))
        if inside is not None:
            return inside(place, obj)
        if isinstance(obj, FunctionType | type) and self._pickler.reducer_override(obj) is NotImplemented:
            return iter(())  # it travels by its name
        return _in_function(place, obj) if isinstance(obj, FunctionType) else self._in_object(place, obj)

    def _reduce(self, obj: Any) -> Any:
        reduced = self._pickler.reducer_override(obj)
        if reduced is not NotImplemented:
            return reduced
        rule = self._pickler.dispatch_table.get(type(obj))
        return obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL) if rule is None else rule(obj)

    def _in_object(self, place: Place, obj: Any) -> Inside:
        """What an object that says itself how it is pickled is pickled as."""
        reduced = self._reduce(obj)
        if isinstance(reduced, str):
            pickle.dumps(obj)  # there has to be something of that name
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
    """What can be reached by a name, so that a place is told as one would write it."""
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
    """What a function that travels by value takes along."""
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
        return  # nothing was put into it


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
