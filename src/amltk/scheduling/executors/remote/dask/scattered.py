"""Shared objects on the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any

from distributed import Variable, get_client

from amltk.scheduling.executors._transfer.contents import Contents

if TYPE_CHECKING:
    from distributed import Client


FETCH_SECONDS = 60
"""How many seconds a worker waits for Dask to say where a shared object is."""


class Scattered:
    """The contents of a shared object on Dask's workers, as long as this object exists.

    Args:
        client: The client.
        contents: The contents of the object.
    """

    def __init__(self, client: Client, contents: memoryview) -> None:
        self._name = f"amltk-shared-{uuid.uuid4().hex}"
        self._variable = Variable(self._name, client)
        # To all workers: what only one had would be lost with it.
        self._variable.set(client.scatter(Contents(contents), hash=False, broadcast=True))

    def __reduce__(self) -> Any:
        """Send only the name."""
        return InCluster, (self._name,)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the client is closed
            self._variable.delete()


class InCluster:
    """The same in a worker.

    Args:
        name: The name of Dask's variable for it.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def fetch(self) -> memoryview:
        """The contents: from this worker, or else from another one."""
        variable: Any = Variable(self._name, get_client())
        contents: Contents = variable.get(timeout=FETCH_SECONDS).result()
        return contents.view
