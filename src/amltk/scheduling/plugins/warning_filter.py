"""Filter the warnings of calls."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk.scheduling.plugin import PassingPlugin
from amltk.scheduling.plugins._support.process_wide import ProcessWide
from amltk.scheduling.plugins.wrapping import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from amltk.scheduling.plugin import Submission

_FILTERS = ProcessWide()


class WarningFilter(PassingPlugin):
    """Filters the warnings of calls, in the worker, as [`warnings.filterwarnings`][warnings.filterwarnings] does.

    Python's filters are process-wide. If calls are computed in threads of one process, the filters apply to the whole
    process while any of them is computed; afterwards the previous filters are restored. From CPython 3.14 on, an
    interpreter that runs with `-X context_aware_warnings` limits them to the thread of the call.

    Args:
        *args: The arguments of `warnings.filterwarnings`, such as `"ignore"`.
        **kwargs: Its keyword arguments, such as `category=FutureWarning`.

    Raises:
        ValueError: Python does not accept the filter.
        TypeError: Python does not accept the argument.
    """

    name = "warning-filter"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.warning_args: tuple[Any, ...] = args
        self.warning_kwargs: dict[str, Any] = kwargs
        try:
            with _filtered(args, kwargs):
                pass
        except AssertionError as error:  # CPython 3.11
            raise ValueError(f"WarningFilter does not accept this filter: {error}") from None

    def pre_submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Submission | None:
        """Compute the call with the filter."""
        return Wrapper(fn, partial(_filtered, self.warning_args, self.warning_kwargs)), args, kwargs

    def status(self) -> str:
        """The filter."""
        given = [repr(value) for value in self.warning_args]
        return ", ".join(given + [f"{name}={value!r}" for name, value in self.warning_kwargs.items()])


def _filtered(args: tuple[Any, ...], kwargs: dict[str, Any]) -> AbstractContextManager[None]:
    filters = partial(_filters, args, kwargs)
    # With filters per thread there is nothing to share.
    return filters() if getattr(sys.flags, "context_aware_warnings", False) else _FILTERS.hold(filters, (args, kwargs))


@contextmanager
def _filters(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings(*args, **kwargs)
        yield
