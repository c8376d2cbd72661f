"""A result that stays where it was computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")


class Reference:
    """Stands for a result in the arguments of a call of the same executor, which puts the value in its place.

    Attributes:
        handle: The handle by which the library below knows the result.
    """

    __slots__ = ("handle",)

    def __init__(self, handle: Any) -> None:
        self.handle: Any = handle

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a result that stayed on a worker can only be an argument of a call on the same executor")


class Left(NamedTuple):
    """What a worker sends in place of a result that stays there.

    Attributes:
        size: The size of its pickle, in bytes.
    """

    size: int


class RemoteResult(Generic[R]):
    """A result that has stayed where it was computed: what `RemoteResults` gives to callbacks in its place.

    A call that has the future of this one among its arguments receives the value itself, from worker to worker. To have
    it in this program, `fetch` it. It stays until nothing refers to this object and its future any more, and at most
    until the end of the run, which ends the workers of most executors.

    Attributes:
        size: The size of its pickle, in bytes; None where it is in this program anyway.
    """

    __slots__ = ("_fetch", "_reference", "_value", "size")

    def __init__(self, value: R) -> None:
        self._value: R | None = value
        self._fetch: Callable[[], R] | None = None
        self._reference: Reference | None = None
        self.size: int | None = None

    @classmethod
    def elsewhere(cls, size: int, handle: Any, fetch: Callable[[], R]) -> RemoteResult[R]:
        """A result that is not in this process.

        Args:
            size: The size of its pickle, in bytes.
            handle: The handle by which the library below knows it.
            fetch: Fetches it.
        """
        made = cls(cast("R", None))
        made.size, made._reference, made._fetch = size, Reference(handle), fetch
        return made

    def fetch(self) -> R:
        """The value. Blocks until it is here: in callbacks of a run, use `await asyncio.to_thread(result.fetch)`.

        Raises:
            WorkerLostError: It is gone, with its worker or with the cluster.
        """
        return cast("R", self._value) if self._fetch is None else self._fetch()

    @property
    def argument(self) -> Any:
        """What a call gets that needs it: the value, or what the executor replaces by the value."""
        return self._value if self._reference is None else self._reference

    @property
    def is_here(self) -> bool:
        """Whether the value is in this process."""
        return self._reference is None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reference is not None:
            raise TypeError(f"{self!r} cannot be pickled: pass the future of its call as an argument, or fetch() it")
        return RemoteResult, (self._value,)

    def __repr__(self) -> str:
        return "<RemoteResult, here>" if self.is_here else f"<RemoteResult of {self.size:,} bytes, on a worker>"
