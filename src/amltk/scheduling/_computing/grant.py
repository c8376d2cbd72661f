"""What the call that is computed here has been granted."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NOTHING: Mapping[str, Any] = MappingProxyType({})

_granted: ContextVar[Mapping[str, Any]] = ContextVar("amltk_granted", default=_NOTHING)


def granted() -> Mapping[str, Any]:
    """The resources that the call which is being computed has been granted, by their names.

    ```python
    def train(lr):
        devices = granted().get("gpu", ())  # ("0",), or ("GPU-3f…",)
    ```

    To be called by the function that is computed, where it is computed. In threads that the function starts it is
    empty: pass the value to them.

    Returns:
        For each resource that `Resources` has asked for: the ids, as a tuple of strings, if its pool was given as a
        list, and as many as were asked for; one if it was a share. Else the amount, as a number. It is empty where
        nothing was asked for, and where the function was called without a scheduler.
    """
    return _granted.get()


@contextmanager
def granting(told: Mapping[str, Any]) -> Iterator[None]:
    """Let this be granted to the call that is computed meanwhile. For what computes it."""
    token = _granted.set(MappingProxyType(dict(told)))
    try:
        yield
    finally:
        _granted.reset(token)
