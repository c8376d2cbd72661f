"""Small types for users' own programs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, Self, TypeAlias, TypeVar

from amltk._checks import check_count

if TYPE_CHECKING:
    from datetime import timedelta

T = TypeVar("T")

Duration: TypeAlias = "float | str | timedelta"
"""How durations are given: a number of seconds, a text with a unit such as `"90 s"` or `"1.5 h"`, or a `timedelta`.

The units are `ms`, `s`, `min`, `h` and `d`; a text without one means seconds.
"""


class Requeue(Iterator[T], Generic[T]):
    """An iterator that takes items back: a natural source of trials for a task whose submissions may be refused.

    Items returned with `requeue` come first (the last returned before the others), then the source, then items added
    with `append`, in the order in which they were added. An exhausted `Requeue` continues when an item is returned or
    added.

    ```python
    configs = Requeue(sample() for _ in range(100))

    @scheduler.on_start(repeat=8)
    @task.on_done
    def launch(*_):
        config = next(configs, None)
        if config is not None and task.submit(config) is None:  # a Limiter held it back
            configs.requeue(config)
    ```

    Args:
        source: The source of the items; consumed lazily, one item at a time.

    Raises:
        TypeError: `source` is not iterable.
    """

    def __init__(self, source: Iterable[T]) -> None:
        self._source = iter(source)
        self._first: list[T] = []
        self._last: deque[T] = deque()

    @classmethod
    def from_func(cls, func: Callable[[], T], n: int | None = None) -> Requeue[T]:
        """Take the items from calls of `func`, made as items are requested.

        Args:
            func: Called without arguments.
            n: The maximum number of calls; None for no limit.

        Raises:
            ValueError: `n` is negative.
            TypeError: `n` is no whole number.
        """
        if n is not None:
            n = check_count("n", n, least=0, or_none=", or None for no limit")

        def calls() -> Iterator[T]:
            made = 0
            while n is None or made < n:
                made += 1
                yield func()

        return cls(calls())

    def requeue(self, item: T) -> None:
        """Return an item: it comes out next."""
        self._first.append(item)

    def append(self, item: T) -> None:
        """Add an item: it comes after all others."""
        self._last.append(item)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._first:
            return self._first.pop()
        for item in self._source:
            return item
        if self._last:
            return self._last.popleft()
        raise StopIteration
