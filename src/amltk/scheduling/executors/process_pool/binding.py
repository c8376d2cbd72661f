"""The devices of a worker."""

from __future__ import annotations

from typing import NamedTuple, Self

from amltk.scheduling._admission.amounts import UNIT
from amltk.scheduling._admission.devices import variables_for


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

    @classmethod
    def to(cls, devices: tuple[str, ...], units: int) -> Self:
        """The binding of a call that was granted so many units of these devices."""
        return cls(tuple(sorted(variables_for(devices).items())), devices, 0 < units < UNIT)

    def excludes(self, other: Binding) -> bool:
        """Whether a call with this binding must not run while a worker with the other one exists."""
        if self.is_shared and self.variables == other.variables:
            return False
        return not set(self.devices).isdisjoint(other.devices)
