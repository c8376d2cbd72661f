"""What a function's code says, without what does not matter to it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from hashlib import blake2b
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def source_digest(function: Any) -> bytes | None:
    """A digest of a function's source that comments, layout and docstrings do not change; None if there is no source.

    Only of the function itself, not of what it calls.
    """
    plain = inspect.unwrap(getattr(function, "__func__", function))
    try:
        source = textwrap.dedent(inspect.getsource(plain))
    except (OSError, TypeError):
        return None
    return blake2b(_plain(source).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _plain(source: str) -> str:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a lambda in the midst of something
        return source.strip()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def code_parts(code: CodeType) -> Iterator[bytes]:
    """What a function does, as bytes: two lambdas may be in one line of the source."""
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars)).encode("utf-8", "surrogatepass")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_parts(constant)
        else:
            text = sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
            yield repr(text).encode("utf-8", "surrogatepass")
