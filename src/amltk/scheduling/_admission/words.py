"""What is in use and what is waited for, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk.scheduling._admission.amounts import amount_text, units_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def pool_text(name: str, used: float, total: float) -> str:
    """How much of a resource is in use: `gpu 2/2`, `memory 8 GB/60 GB`."""
    parts = (amount_text(units_of(name, amount)) for amount in (used, total))
    return f"{name} {'/'.join(parts)}"


def waits_text(calls: int, pools: Mapping[str, int], dependencies: int) -> str:
    """What calls wait for: `waiting 5 (3 gpu, 2 dependencies)`; empty if none waits."""
    if not calls:
        return ""
    parts = [f"{n:,} {name}" for name, n in pools.items()]
    if dependencies:
        parts.append(f"{dependencies:,} {'dependency' if dependencies == 1 else 'dependencies'}")
    return f"waiting {calls:,}" + (f" ({', '.join(parts)})" if parts else "")
