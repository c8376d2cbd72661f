"""The devices of a worker."""

from __future__ import annotations

from typing import NamedTuple


class Binding(NamedTuple):
    """Which devices a worker process uses, for its whole life: CUDA reads its variable only once.

    Attributes:
        variables: The environment variables that say so, with their values.
        devices: The devices; none if they are hidden.
        is_shared: Whether other workers may use the same devices at the same time.
    """

    variables: tuple[tuple[str, str], ...]
    devices: tuple[str, ...]
    is_shared: bool

    def excludes(self, other: Binding) -> bool:
        """Whether a call with this binding must not run while a worker with the other one exists."""
        if self.is_shared and self.variables == other.variables:
            return False
        return not set(self.devices).isdisjoint(other.devices)
