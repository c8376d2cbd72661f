"""What a function's code says, without what does not matter to it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from hashlib import blake2b
from typing import Any


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
