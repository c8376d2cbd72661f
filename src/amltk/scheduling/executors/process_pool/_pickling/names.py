"""The names that code refers to: globals, names in its strings, and imported modules."""

from __future__ import annotations

import dis
import re
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_GLOBALS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
"""Instructions that look up globals, including those of class bodies and annotations."""

_LOOKS_UP = frozenset({"globals", "eval", "exec", "vars", "locals"})
"""Built-in functions through which code may find any global. As attributes they differ, for example `model.eval()`."""

_LOOKS_UP_FRAMES = frozenset({
    "get_type_hints", "get_annotations", "query", "_getframe", "currentframe", "f_globals", "__globals__",
})  # fmt: skip
"""Functions that look at the globals of their caller or of a function, on whatever object they are looked up."""

_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_HAS_DOCSTRING = 0x4000000  # in co_flags, from CPython 3.14 on
_OPTIMIZED = 0x1

_known: WeakKeyDictionary[CodeType, Names] = WeakKeyDictionary()


class Names(NamedTuple):
    """The names that code refers to, including nested code.

    Attributes:
        globals: Names looked up among its globals.
        attributes: All names in it, including those of attributes and imports.
        text: Identifiers within its strings, except docstrings.
        imports: Absolute names of imported modules; names imported from a module count as submodules.
        is_open: Whether it may look up any global, by a name computed at run time.
    """

    globals: frozenset[str]
    attributes: frozenset[str]
    text: frozenset[str]
    imports: frozenset[str]
    is_open: bool


def names_of(code: CodeType) -> Names:
    """The names that code refers to."""
    names = _known.get(code)
    if names is None:
        names = _known[code] = _find(code)
    return names


def identifiers(texts: Iterable[Any]) -> Iterator[str]:
    """The identifiers within strings, also within tuples and sets of strings."""
    for text in texts:
        if isinstance(text, str):
            yield from _IDENTIFIER.findall(text)
        elif isinstance(text, tuple | frozenset):
            yield from identifiers(text)


def _find(code: CodeType) -> Names:
    globals_, imports = set[str](), set[str]()
    attributes, text = set(code.co_names), set(identifiers(_texts(code)))
    module = ""
    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBALS:
            globals_.add(instruction.argval)
        elif instruction.opname == "IMPORT_NAME":
            module = instruction.argval
            imports.add(module)
        elif instruction.opname == "IMPORT_FROM":
            imports.add(f"{module}.{instruction.argval}")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = names_of(constant)
            globals_ |= inner.globals
            attributes |= inner.attributes
            text |= inner.text
            imports |= inner.imports
    is_open = not (_LOOKS_UP.isdisjoint(globals_) and _LOOKS_UP_FRAMES.isdisjoint(attributes))
    return Names(frozenset(globals_), frozenset(attributes), frozenset(text), frozenset(imports), is_open)


def _texts(code: CodeType) -> tuple[Any, ...]:
    constants = code.co_consts
    # Before 3.14 the first constant of a function is its docstring or None; comprehensions have neither.
    is_documented = code.co_flags & _HAS_DOCSTRING or (code.co_flags & _OPTIMIZED and not code.co_name.startswith("<"))
    if is_documented and constants and isinstance(constants[0], str):
        return constants[1:]
    return constants
