"""The contents of a shared object, as other libraries keep them."""

from __future__ import annotations

import pickle
from typing import Any


class Contents:
    """Bytes that are not copied where they are pickled with out-of-band buffers.

    Args:
        view: The bytes.
    """

    def __init__(self, view: Any) -> None:
        self.view: memoryview = memoryview(view).toreadonly()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Out of band if the library can do that."""
        del protocol
        return Contents, (pickle.PickleBuffer(self.view),)


class Sent:
    """Contents that travel with each call, for executors that cannot keep objects.

    Args:
        contents: The contents.
    """

    def __init__(self, contents: bytes) -> None:
        self._contents = contents

    def fetch(self) -> memoryview:
        """The contents."""
        return memoryview(self._contents)
