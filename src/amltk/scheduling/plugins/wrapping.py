"""What plugins put around a call where it is computed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from amltk.scheduling.events import callback_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class Wrapper:
    """A function within a context manager, which is made and entered anew for each call, in the worker.

    It is named like the function, so that messages name what the user wrote, and it travels as no more than the
    function and `around`. Wrappers may be nested.

    ```python
    Wrapper(train, functools.partial(threadpool_limits, limits=1))
    ```

    Args:
        function: What is called; anything that the executor can send.
        around: Makes the context manager, without arguments. It must travel too: a function of a module, a class, or a
            `functools.partial` of one. What it or the context manager raises is the outcome of the call.

    Attributes:
        function: What is called.
        around: Makes the context manager.
    """

    def __init__(self, function: Callable[..., Any], around: Callable[[], AbstractContextManager[Any]]) -> None:
        functools.update_wrapper(self, function, updated=())  # an object's own attributes are not the wrapper's
        self.__qualname__: str = callback_name(function)  # a partial has none
        self.function: Callable[..., Any] = function
        self.around: Callable[[], AbstractContextManager[Any]] = around

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function within the context manager."""
        with self.around():
            return self.function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.function, self.around)

    def __repr__(self) -> str:
        return f"Wrapper({self.__qualname__}, {self.around!r})"
