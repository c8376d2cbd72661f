"""Let calls have resources to themselves: GPUs, CPUs, memory, licences."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from amltk._checks import check_bool, check_seconds
from amltk.exceptions import MemoryLimitError
from amltk.scheduling._admission.amounts import amount_text
from amltk.scheduling._admission.demand import Demand
from amltk.scheduling.plugin import PassingPlugin
from amltk.scheduling.plugins.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.call import Call, Outcome
    from amltk.scheduling.events import Event
    from amltk.scheduling.scheduler import Scheduler
    from amltk.scheduling.task import Task
    from amltk.types import Duration

    Amount = float | str | Callable[[Call], float | str]


class Resources(PassingPlugin):
    """Begins a call of a task when what it asks for is free, and keeps that for it until its work has ended.

    ```python
    scheduler = Scheduler.with_processes(8, resources={"gpu": "auto", "cpu": 16, "memory": "60 GB", "licence": 3})
    train = scheduler.task(fit, plugins=Resources(gpu=1, cpu=4))
    score = scheduler.task(predict, plugins=Resources(gpu=0.5), priority=10)
    ```

    What is asked for must be among the `resources=` of the scheduler. Where that is a list, each call gets ids from it,
    which `granted()` tells the function; an amount below 1 is a share of one of them. Where it is a number, amounts are
    added up. Nobody checks that a call uses no more than it asked for, unless `enforce=True`.

    Two names do more in a process that computes a call:

    - `gpu`: `CUDA_VISIBLE_DEVICES` (or `ROCR_VISIBLE_DEVICES`) names the GPUs of the call. A worker of
      `Scheduler.with_processes` has its GPUs for its whole life, since CUDA reads the variable only once. `gpu=0` hides
      all GPUs; a task that does not mention them sees what this process sees.
    - `cpu`: libraries such as OpenBLAS, MKL and OpenMP use so many threads, by `OMP_NUM_THREADS` and the like, and by
      threadpoolctl where it is installed.

    On executors that compute in threads of this process, calls wait for resources and `granted()` tells them, and no
    more.

    Each attempt of a `Retry` asks again. While a call waits, `Scheduler.explain` says for what, and you can cancel it.

    Args:
        needs_time: How much of the run's `timeout` must be left when a call begins: seconds, a text such as `"20 min"`,
            or a `timedelta`; None if that does not matter. Calls for which less is left are cancelled when the run
            ends, and no policy applies to that. If nothing else is left to do, the run ends at once, by its timeout.
            With `Scheduler.with_slurm_jobs` it is the time limit of the call's job as well.
        enforce: Whether a call that uses more `memory` than it asks for is ended, as by `Limits`.
        **amounts: For each resource how much a call needs: a number, a text such as `"4 GB"`, or a function that takes
            the `Call`, with its `args`, `kwargs` and `attempt`, and returns one.

    Raises:
        TypeError: An amount is nothing of that.
        ValueError: No amount is given, one is negative or not finite, or `enforce` is set without `memory`.
    """

    name = "resources"

    def __init__(self, *, needs_time: Duration | None = None, enforce: bool = False, **amounts: Amount) -> None:
        self.enforce: bool = check_bool("enforce", enforce)
        seconds = 0.0 if needs_time is None else check_seconds("needs_time", needs_time)
        if not amounts and not seconds:
            raise ValueError("Resources() asks for nothing: write for instance Resources(gpu=1, cpu=4)")
        if self.enforce and "memory" not in amounts:
            raise ValueError("enforce=True: only memory can be enforced, and there is none; add memory=...")
        self.demand: Demand = Demand(amounts, seconds, enforces_memory=self.enforce)
        self._schedulers: list[Scheduler] = []

    def attach_task(self, task: Task[..., Any]) -> None:
        """Have calls of this task wait for resources. One plugin may serve several tasks.

        Raises:
            ValueError: `enforce` is set, and its scheduler computes in threads, which cannot be ended.
        """
        capabilities = task.scheduler.executor_kind.capabilities
        if self.enforce and capabilities.in_process:
            raise ValueError(
                f"enforce=True: a call of {task.name} cannot be ended on {task.scheduler.executor!r}: Python cannot end"
                " a thread. Use Scheduler.with_processes(), or leave out enforce="
            )
        if task.scheduler not in self._schedulers:
            self._schedulers.append(task.scheduler)

    def events(self) -> list[Event[..., Any]]:
        """`@memory-limit-reached` of `Limits`, if `enforce` is set."""
        return [Limits.MEMORY_LIMIT_REACHED] if self.enforce else []

    def prepare(self, call: Call) -> bool:
        """Have the call wait for what it asks for."""
        call.demand = self.demand
        if self.enforce and not any(isinstance(plugin, Limits) for plugin in call.task.plugins):
            call.on_outcome(partial(self._tell, call))
        return True

    @staticmethod
    def _tell(call: Call, outcome: Outcome) -> None:
        if isinstance(outcome.error, MemoryLimitError):
            call.task.emit(Limits.MEMORY_LIMIT_REACHED, call.future, outcome.error)

    def status(self) -> str:
        """How much is used of what calls ask for, and how many calls of the scheduler wait: `gpu 2/2 · waiting 5`."""
        parts: list[str] = []
        for scheduler in self._schedulers:
            named = scheduler.pools.counted()
            parts += [
                f"{name} {amount_text(named[name].used)}/{amount_text(named[name].total)}"
                for name in self.demand.amounts
                if name in named
            ]
            run = scheduler.find_run()
            waiting, by_pool = (0, {}) if run is None else run.submissions.waits_for()
            if waiting:
                lacked = ", ".join(f"{n} {name}" for name, n in by_pool.items() if name in named)
                parts.append(f"waiting {waiting}" + (f" ({lacked})" if lacked else ""))
        return " · ".join(parts)
