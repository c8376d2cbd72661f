"""What code refers to: names of globals, names that it has as text, and modules that it imports."""

from __future__ import annotations

import dis
import re
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_GLOBALS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
"""Instructions that look up globals, those of class bodies and of annotations among them."""

_LOOKS_UP = frozenset({"globals", "eval", "exec", "vars", "locals"})
"""Built-in functions by which code may find any global. As attributes they are others, such as `model.eval()`."""

_LOOKS_UP_FRAMES = frozenset({
    "get_type_hints", "get_annotations", "query", "_getframe", "currentframe", "f_globals", "__globals__",
})  # fmt: skip
"""What looks at the globals of those who call it, or of a function, whatever it is an attribute of."""

_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_HAS_DOCSTRING = 0x4000000  # of co_flags, from CPython 3.14 on
_OPTIMIZED = 0x1

_known: WeakKeyDictionary[CodeType, Names] = WeakKeyDictionary()


class Names(NamedTuple):
    """What code refers to, the code within it included.

    Attributes:
        globals: Names that it looks up among its globals.
        attributes: All names in it, those of attributes and of what it imports among them.
        text: Identifiers within its strings, docstrings left out.
        imports: Modules that it imports by their absolute names; what it imports from one as if it were a submodule.
        is_open: It may look up any global, by a name that is made at run time.
    """

    globals: frozenset[str]
    attributes: frozenset[str]
    text: frozenset[str]
    imports: frozenset[str]
    is_open: bool


def names_of(code: CodeType) -> Names:
    """What code refers to."""
    names = _known.get(code)
    if names is None:
        names = _known[code] = _find(code)
    return names


def identifiers(texts: Iterable[Any]) -> Iterator[str]:
    """The identifiers within those that are strings; in tuples and sets of them, too."""
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
