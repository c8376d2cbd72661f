"""Takes exceptions apart to send them, and puts them together again.

Pickle recreates an exception by calling its class with `args`. That fails for every class whose `__init__` takes other
arguments than it passes on, and loses the cause, the context and the fields kept in C. Here an exception is its class
and its state: it is created without calling `__init__`, and then the state is set. Each exception is a *part* that
refers to others (its cause, its context, the members of a group, exceptions in its attributes) by number. So a part
that cannot be pickled costs only itself, and cycles and long chains need no special care.

If a class defines its own pickling, for example with `__reduce__`, that takes precedence as long as it works.
"""

from __future__ import annotations

import contextlib
import copyreg
import io
import pickle
from collections.abc import Callable
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, NamedTuple, TypeAlias

from amltk._notes import add_note, field, safe_repr, set_field
from amltk.exceptions import RemoteError

Refer: TypeAlias = Callable[[Any], int | None]
"""Returns the number that stands for an object in a pickle; None for objects that are pickled themselves."""

Dump: TypeAlias = Callable[[Any, Refer], bytes]
"""Pickles an object that refers to others."""

_HEAP_TYPE = 1 << 9
"""The flag of classes created while the program runs, which add nothing in C to an exception."""

_NOT_OF_CLASSES = {object, BaseException, BaseExceptionGroup}
"""The state of these classes is known, and handled separately."""

_NOT_FIELDS = {"__dict__", "__weakref__"}

_SAYS = ("__reduce__", "__reduce_ex__", "__setstate__")
"""The methods by which a class defines its own pickling."""

_NOT_SENT = {(AttributeError, "obj")}
"""Fields that may be as large as the data of the failed call; pickle omits them too."""


class Part(NamedTuple):
    """One exception, ready to send.

    Attributes:
        name: The name of its class, with the module.
        text: Its message.
        cls: A pickle of its class; None if it cannot be pickled.
        state: A pickle of its `args`, fields and attributes.
        reduced: A pickle made in the class's own way; None if the class does not define one.
        message: The message of a group.
        members: The numbers of the members of a group; None if it is not a group.
        cause: The number of its `__cause__`, or None.
        context: The number of its `__context__`, or None.
        suppress: Its `__suppress_context__`.
        notes: Its notes.
        problems: Descriptions of what could not be pickled.
    """

    name: str
    text: str
    cls: bytes | None
    state: bytes | None
    reduced: bytes | None
    message: str
    members: tuple[int, ...] | None
    cause: int | None
    context: int | None
    suppress: bool
    notes: tuple[str, ...]
    problems: tuple[str, ...]


class Refers:
    """A mixin that makes a pickler replace objects by numbers, as `refer` says."""

    refer: Refer

    def persistent_id(self, obj: Any) -> int | None:
        """Called by the pickler for every object."""
        return self.refer(obj)


def dump_part(make_pickler: Callable[[io.BytesIO], Any], part: Any, refer: Refer) -> bytes:
    """Pickle a part of an exception; `make_pickler` returns a pickler that is a `Refers` as well."""
    file = io.BytesIO()
    pickler = make_pickler(file)
    pickler.refer = refer
    pickler.dump(part)
    return file.getvalue()


def take_apart(error: BaseException, dump: Dump) -> tuple[Part, ...]:
    """Prepare an exception and all that it refers to for sending; it is the first part."""
    return _Taking(error, dump).parts()


def put_together(parts: tuple[Part, ...]) -> BaseException:
    """Restore an exception; parts that could not be sent are left out, and a note says so.

    If not even its class exists here, it is a `RemoteError` with the type and the text.
    """
    return _Assembly(parts).error()


def text_of(error: BaseException) -> str:
    """The message of an exception, even if its `__str__` raises."""
    try:
        return str(error)
    except (Exception, SystemExit) as strange:  # noqa: BLE001 - the user's own __str__ failed
        return f"<its __str__ raised {safe_repr(strange)}>"


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """Set the cause of an exception and nothing else, even if its class forbids setting attributes."""
    suppress = field(error, "__suppress_context__")
    set_field(error, "__cause__", cause)
    set_field(error, "__suppress_context__", suppress)


def _native(cls: type) -> Any:
    """The base class in C that determines which fields an exception of this class has."""
    while cls.__flags__ & _HEAP_TYPE:
        assert cls.__base__ is not None
        cls = cls.__base__
    return cls


def _reduces_itself(cls: type) -> bool:
    """Whether a class defines its own pickling.

    A reducer registered for all exceptions, as tblib does when Dask is imported, does not count.
    """
    native = _native(cls)
    registered = copyreg.dispatch_table.get(cls)
    if registered is not None and registered is not copyreg.dispatch_table.get(BaseException):
        return True
    return any(getattr(cls, name) is not getattr(native, name) for name in _SAYS)


def _fields(cls: type) -> dict[str, Any]:
    """The fields of an exception outside its `__dict__`: slots, and fields such as `errno` of `OSError`."""
    return {
        name: descriptor
        for base in reversed(cls.__mro__)
        if base not in _NOT_OF_CLASSES
        for name, descriptor in vars(base).items()
        if isinstance(descriptor, MemberDescriptorType | GetSetDescriptorType)
        and name not in _NOT_FIELDS
        and (base, name) not in _NOT_SENT
    }


def _values(error: BaseException) -> dict[str, Any]:
    values = {}
    for name, descriptor in _fields(type(error)).items():
        try:
            value = descriptor.__get__(error)
        except AttributeError:
            continue  # not set
        if value is not None:  # None is like unset; but setting it matters for some fields of `OSError`
            values[name] = value
    return values


def _notes(error: BaseException) -> tuple[str, ...]:
    notes = field(error, "__dict__").get("__notes__")
    return tuple(note for note in notes if type(note) is str) if isinstance(notes, list) else ()


class _Taking:
    """The state of taking one exception apart."""

    def __init__(self, error: BaseException, dump: Dump) -> None:
        self._dump = dump
        self._errors: list[BaseException] = []  # kept alive, so that ids stay unique
        self._numbers: dict[int, int] = {}
        self._number(error)

    def parts(self) -> tuple[Part, ...]:
        """All parts; each may refer to more."""
        parts: list[Part] = []
        while len(parts) < len(self._errors):
            parts.append(self._part(self._errors[len(parts)]))
        return tuple(parts)

    def _number(self, error: BaseException) -> int:
        number = self._numbers.setdefault(id(error), len(self._errors))
        if number == len(self._errors):
            self._errors.append(error)
        return number

    def _optional(self, error: BaseException | None) -> int | None:
        return None if error is None else self._number(error)

    def _refer(self, obj: Any) -> int | None:
        return self._number(obj) if issubclass(type(obj), BaseException) else None

    def _part(self, error: BaseException) -> Part:
        cls = type(error)
        problems: list[str] = []
        pickled_class = self._attempt("its class", cls, problems)
        group: Any = error if issubclass(cls, BaseExceptionGroup) else None
        return Part(
            name=f"{cls.__module__}.{cls.__qualname__}",
            text=text_of(error),
            cls=pickled_class,
            state=None if pickled_class is None else self._state(error, problems),
            reduced=self._reduced(error) if _reduces_itself(cls) else None,
            message="" if group is None else group.message,
            members=None if group is None else tuple(map(self._number, group.exceptions)),
            cause=self._optional(field(error, "__cause__")),
            context=self._optional(field(error, "__context__")),
            suppress=field(error, "__suppress_context__"),
            notes=_notes(error),
            problems=tuple(problems),
        )

    def _reduced(self, error: BaseException) -> bytes | None:
        try:
            return self._dump(error, lambda obj: None if obj is error else self._refer(obj))
        except BaseException:  # noqa: BLE001 - the user's own method failed; sent without it
            return None

    def _state(self, error: BaseException, problems: list[str]) -> bytes | None:
        args, values, attributes = field(error, "args"), _values(error), dict(field(error, "__dict__"))
        try:
            return self._dump((args, values, attributes), self._refer)
        except BaseException:  # noqa: BLE001 - the culprit is found below
            args = tuple(
                arg if self._attempt(f"args[{n}]", arg, problems) is not None else safe_repr(arg)
                for n, arg in enumerate(args)
            )
            values, attributes = (
                {name: value for name, value in kept.items() if self._attempt(name, value, problems) is not None}
                for kept in (values, attributes)
            )
            return self._attempt("its state", (args, values, attributes), problems)

    def _attempt(self, what: str, value: Any, problems: list[str]) -> bytes | None:
        try:
            return self._dump(value, self._refer)
        except BaseException as error:  # noqa: BLE001 - described instead
            problems.append(f"{what}, a {type(value).__name__}, cannot be pickled: {safe_repr(error)}")
            return None


class _Assembly:
    """The state of putting one exception together."""

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self._parts = parts
        self._errors: dict[int, BaseException] = {}
        self._empty: list[tuple[BaseException, Part]] = []  # created, but without their state yet
        self._under_way: set[int] = set()

    def error(self) -> BaseException:
        """The exception of the first part."""
        for number in range(len(self._parts)):
            self._get(number)
        for error, part in self._empty:
            self._fill(error, part)
        for number, part in enumerate(self._parts):
            self._link(self._errors[number], part)
        return self._errors[0]

    def _get(self, number: int) -> BaseException:
        """An exception, whose state may not be set yet."""
        if number not in self._errors:
            if number in self._under_way:
                raise pickle.UnpicklingError("an exception refers to itself in its own construction")
            self._under_way.add(number)
            self._errors[number] = self._make(self._parts[number])
        return self._errors[number]

    def _load(self, pickled: bytes) -> Any:
        loader = _Loader(io.BytesIO(pickled))
        loader.get = self._get
        return loader.load()

    def _make(self, part: Part) -> BaseException:
        if part.reduced is not None:
            try:
                made = self._load(part.reduced)
            except BaseException:  # noqa: BLE001 - the user's own method failed; created without it
                made = None
            if issubclass(type(made), BaseException):
                return made  # type: ignore[no-any-return]
        problem = "; ".join(part.problems)
        if part.cls is not None:
            try:
                return self._make_empty(self._load(part.cls), part)
            except BaseException as error:  # noqa: BLE001 - the user's own class failed; described instead
                problem = f"it cannot be unpickled here: {safe_repr(error)}"
        return stand_in(part, problem)

    def _make_empty(self, cls: Any, part: Part) -> BaseException:
        given = () if part.members is None else (part.message, [self._get(number) for number in part.members])
        error = _native(cls).__new__(cls, *given)
        if not isinstance(error, BaseException):
            raise TypeError(f"{cls!r} is not an exception class here")
        self._empty.append((error, part))
        return error

    def _fill(self, error: BaseException, part: Part) -> None:
        if part.state is None:
            set_field(error, "args", (part.text,))
            return
        try:
            args, values, attributes = self._load(part.state)
            set_field(error, "args", args)
            field(error, "__dict__").update(attributes)
            fields = _fields(type(error))
            for name in values.keys() & fields.keys():
                with contextlib.suppress(AttributeError, TypeError):  # the field is read-only
                    fields[name].__set__(error, values[name])
        except BaseException as problem:  # noqa: BLE001 - the user's own classes failed; reported instead
            set_field(error, "args", (part.text,))
            add_note(error, f"its attributes cannot be unpickled here: {safe_repr(problem)}")

    def _link(self, error: BaseException, part: Part) -> None:
        set_field(error, "__cause__", None if part.cause is None else self._errors[part.cause])
        set_field(error, "__context__", None if part.context is None else self._errors[part.context])
        set_field(error, "__suppress_context__", part.suppress)
        if not _notes(error):
            for note in part.notes:
                add_note(error, note)
        if type(error) is not RemoteError:  # whose text has them already
            for problem in part.problems:
                add_note(error, f"left out in transit: {problem}")


class _Loader(pickle.Unpickler):
    """Resolves the numbers in a pickle."""

    get: Callable[[int], BaseException]

    def persistent_load(self, pid: Any) -> BaseException:
        """Called by the unpickler for every number."""
        return self.get(pid)


def stand_in(part: Part, problem: str = "") -> RemoteError:
    """A replacement that describes an exception which could not be restored."""
    return RemoteError(f"{part.name}: {part.text}" + (f" ({problem})" if problem else ""))
