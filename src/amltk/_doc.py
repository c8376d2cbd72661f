"""Used by the hidden lines of documentation pages: code there is executed, and its results become part of the page."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from amltk import _extras
from amltk._checks import check_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

T = TypeVar("T")

Output = Literal["html", "svg"]

_registered: dict[str, Any] = {}  # what `make_picklable` has stored in `__main__`


def make_picklable(obj: T, name: str | None = None) -> T:
    """Let worker processes find a function or class defined in executed text, such as a page's code block.

    Such text is not a module that could be imported, so pickle, which sends only a name, cannot send what it defines.
    The object is stored in `__main__` under its name. An object that can already be found, as in a plain script, is
    left as it is.

    Args:
        obj: The function or class.
        name: Its name in `__main__`; None for its own name. A name used here before is reused, since a page may be
            executed many times.

    Returns:
        The object.

    Raises:
        TypeError: It is neither a function nor a class.
        ValueError: The name is not an identifier, or `__main__` already has something else under it.
    """
    if not callable(obj) or not hasattr(obj, "__qualname__"):
        raise TypeError(f"obj={obj!r}: must be a function or a class, not an instance of {type(obj).__name__}")
    if _can_be_found(obj):
        return obj
    target: Any = obj
    found_as: str = target.__name__ if name is None else name
    if not found_as.isidentifier():
        raise ValueError(f"name={found_as!r}: must be an identifier; give one with make_picklable(obj, name='...')")
    main = sys.modules["__main__"]
    if found_as in vars(main) and vars(main)[found_as] is not _registered.get(found_as):
        raise ValueError(f"name={found_as!r}: __main__ has {vars(main)[found_as]!r} under this name; give another one")
    setattr(main, found_as, obj)
    _registered[found_as] = obj
    target.__module__ = "__main__"
    target.__qualname__ = found_as
    return obj


def _can_be_found(obj: Any) -> bool:
    """Whether pickle finds the object by its module and qualified name."""
    found: Any = sys.modules.get(getattr(obj, "__module__", None) or "__main__")
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj


def doc_print(
    print: Callable[[str], object],  # noqa: A002 - the page's own, which may differ from the builtin
    *renderables: RenderableType,
    output: Output = "html",
    fontsize: str = "medium",
    title: str = "",
    width: int = 80,
) -> None:
    """Print schedulers, tasks or anything else that rich can draw as a picture for a page.

    Args:
        print: The function that prints into the page; called once per picture.
        *renderables: What to print.
        output: `"html"` for text with inline styles, which takes the colours of the page; `"svg"` for the picture of
            a terminal.
        fontsize: A font size of CSS, such as `"small"` or `"14px"`.
        title: A heading for each picture; empty for none.
        width: Columns, at least 1.

    Raises:
        ValueError: `output` or `width` has a value that is not allowed.
        MissingExtraError: rich is not installed.
    """
    if output not in get_args(Output):
        raise ValueError(f"output={output!r}: must be one of {', '.join(map(repr, get_args(Output)))}")
    width = check_count("width", width)
    export = _extras.load("amltk.display.export", needs="rich", extra="rich")
    draw = export.to_html if output == "html" else export.to_svg
    for renderable in renderables:
        print(draw(renderable, width=width, fontsize=fontsize, title=title))
