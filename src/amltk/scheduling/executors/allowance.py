"""What a call may use where it is computed, and how it gets to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from amltk.scheduling._admission.pools import GPU
from amltk.scheduling._computing.grant import granting
from amltk.scheduling.events import take_names
from amltk.scheduling.executors.execution_info import lent_devices
from amltk.scheduling.executors.process_pool._child.library_threads import limited

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from amltk.scheduling.executors.process_pool.binding import Binding
    from amltk.scheduling.executors.process_pool.limits import CallLimits

    Lend = Callable[[int], AbstractContextManager[tuple[tuple[str, ...], Binding | None]]]


class Allowance(NamedTuple):
    """What one attempt of a call may use.

    Attributes:
        told: What `granted()` returns.
        threads: How many threads numerical libraries may use; None to leave that alone.
        binding: Its GPUs; None to leave the environment alone.
        limits: What it must not exceed; None for no limits.
    """

    told: Mapping[str, Any]
    threads: int | None
    binding: Binding | None
    limits: CallLimits | None


class AllowedFunction:
    """A function that is computed with what it was granted.

    Args:
        function: The function.
        told: What `granted()` returns meanwhile.
        threads: How many threads numerical libraries may use in this process; None to leave that alone.
    """

    def __init__(self, function: Callable[..., Any], told: Mapping[str, Any], threads: int | None) -> None:
        self.__qualname__: str = take_names(self, function)
        self.function = function
        self.told = told
        self.threads = threads

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Compute the function."""
        with granting(self.told):
            if self.threads is None:
                return self.function(*args, **kwargs)
            with limited(self.threads):
                return self.function(*args, **kwargs)


class FunctionInOwnProcess:
    """The same in a process of its own, for workers that cannot be bound to devices, or given limits.

    Args:
        function: An `AllowedFunction`.
        binding: The devices of the process; None to leave the environment alone.
        limits: What it must not exceed; None for no limits.
    """

    def __init__(self, function: AllowedFunction, binding: Binding | None, limits: CallLimits | None) -> None:
        self.__qualname__: str = take_names(self, function)
        self.function = function
        self.binding = binding
        self.limits = limits

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Compute the function, and end the process."""
        from amltk.scheduling.executors.process_pool.pool import ProcessPool

        pool = ProcessPool(1, "spawn")
        try:
            return pool.submit_bound(self.binding, self.limits, self.function, *args, **kwargs).result()
        finally:
            pool.kill_workers()


class FunctionWithLentDevices:
    """The same where the worker itself knows which devices are free: its own, or those that its cluster gives it.

    Args:
        function: The function.
        allowance: What it may use; its devices are ignored.
        lend: Called in the worker with the number of units: lends devices, with the binding of a process that may use
            no others; None where the worker itself is such a process.
        units: How many units of devices.
    """

    def __init__(self, function: Callable[..., Any], allowance: Allowance, lend: Lend, units: int) -> None:
        self.__qualname__: str = take_names(self, function)
        self.function = function
        self.allowance = allowance
        self.lend = lend
        self.units = units

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Compute the function, and give the devices back."""
        told, threads, _, limits = self.allowance
        with self.lend(self.units) as (ids, binding):
            lent_devices.set(tuple(f"{GPU} {device}" for device in ids))
            allowed = AllowedFunction(self.function, {**told, GPU: ids}, threads)
            if binding is None and limits is None:
                return allowed(*args, **kwargs)
            return FunctionInOwnProcess(allowed, binding, limits)(*args, **kwargs)
