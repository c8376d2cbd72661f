"""A value with a large buffer, like NumPy's arrays, without NumPy."""

from __future__ import annotations

import pickle
from typing import Any

MB = 1 << 20


class Array:
    """A writable buffer that pickle keeps out of band."""

    def __init__(self, data: Any) -> None:
        self.data = memoryview(data)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Array, (pickle.PickleBuffer(self.data),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and self.data == other.data

    __hash__ = None  # type: ignore[assignment] # it can be changed


def filled(number: int, size: int = 2 * MB) -> Array:
    """An array whose bytes are all this number."""
    return Array(bytearray([number % 256]) * size)


def is_filled(array: Array, number: int, size: int = 2 * MB) -> bool:
    """Whether an array equals what `filled` makes."""
    return array.data.tobytes() == bytes([number % 256]) * size
