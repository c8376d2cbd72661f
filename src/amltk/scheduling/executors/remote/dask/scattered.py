"""Shared objects on the workers of a Dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed import Future, get_client

from amltk.scheduling.executors._transfer.contents import Contents

if TYPE_CHECKING:
    from distributed import Client


class Scattered:
    """What Dask's workers have of a shared object, as long as this object is there.

    Args:
        client: The client.
        contents: The contents of the object.
    """

    def __init__(self, client: Client, contents: memoryview) -> None:
        # To all workers: what only one had would be lost with it.
        self._future = client.scatter(Contents(contents), hash=False, broadcast=True)

    def __reduce__(self) -> Any:
        """Send only the key."""
        return InCluster, (self._future.key,)


class InCluster:
    """The same in a worker.

    Args:
        key: Dask's key.
    """

    def __init__(self, key: str) -> None:
        self._key = key

    def fetch(self) -> memoryview:
        """The contents: from this worker, or else from another one."""
        contents: Contents = Future(self._key, get_client()).result()
        return contents.view
