"""Wraps a call in a context manager where it is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk.scheduling.events import take_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class Wrapper:
    """A function within a context manager, which is created and entered for each call, in the worker.

    It has the name of the function, so that messages show what the user wrote, and only the function and `around` are
    sent to the worker. Wrappers may be nested.

    ```python
    Wrapper(train, functools.partial(threadpool_limits, limits=1))
    ```

    Args:
        function: The function to call; anything that the executor can send.
        around: Creates the context manager, without arguments. It must be sendable too: a function of a module, a
            class, or a `functools.partial` of one. If it or the context manager raises, the call fails with that
            exception.

    Attributes:
        function: The function to call.
        around: Creates the context manager.
    """

    def __init__(self, function: Callable[..., Any], around: Callable[[], AbstractContextManager[Any]]) -> None:
        self.__qualname__: str = take_names(self, function)
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
