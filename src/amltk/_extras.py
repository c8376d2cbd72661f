"""Loads the parts of the package that need an optional library."""

from __future__ import annotations

import importlib
from typing import Any

from amltk.exceptions import MissingExtraError


def load(module: str, *, needs: str | tuple[str, ...], extra: str) -> Any:
    """Import `module` of this package, which imports the optional library `needs`.

    Args:
        module: The dotted name of the module.
        needs: The name of the library that the module needs; or several.
        extra: The extra of this distribution that installs the library.

    Raises:
        MissingExtraError: The library is not installed; the message gives the pip command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ((needs,) if isinstance(needs, str) else needs):
            raise
        raise _missing(missing, extra) from error


def check(*libraries: str, extra: str) -> None:
    """Check that libraries are installed which another process will import.

    Raises:
        MissingExtraError: One is not; the message gives the pip command.
    """
    from importlib.util import find_spec  # few programs need it

    for library in libraries:
        if find_spec(library) is None:
            raise _missing(library, extra)


def _missing(library: str, extra: str) -> MissingExtraError:
    return MissingExtraError(f"this needs {library!r}: pip install 'amltk[{extra}]'", name=library)


def html_of(thing: Any) -> str | None:
    """The HTML of something that rich can draw, for notebooks; None if rich is not installed."""
    try:
        export = load("amltk.display.export", needs="rich", extra="rich")
    except MissingExtraError:
        return None
    html: str = export.to_html(thing)
    return html
