"""What a run needs to know about its executor."""

from __future__ import annotations

import asyncio
import inspect
import logging
from concurrent.futures import BrokenExecutor
from functools import partial
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Protocol

from amltk import _compat
from amltk.exceptions import WorkerLostError
from amltk.scheduling.executors.light_future import Answer
from amltk.scheduling.executors.termination import prepare_kill, shut_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Executor
    from concurrent.futures import Future as Work
    from pathlib import Path

    from amltk.scheduling.executors.allowance import Allowance
    from amltk.scheduling.executors.capabilities import AdoptingExecutor, Capabilities, Identify, Identity, Terminator
    from amltk.scheduling.executors.process_pool.limits import CallLimits

    Caller = Callable[[Callable[[], None]], None]


_log = logging.getLogger(__name__)

LOSSES = (BrokenExecutor, WorkerLostError, KeyboardInterrupt, SystemExit)
"""How calls end when their worker is killed, or gets a signal that was meant for the whole group."""

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

MAX_LOOKED_AT = 500
"""How many pending calls are checked for running at most, plus one per worker."""


class Prepared(Protocol):
    """A call as the plugins of its task have prepared it."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    limits: CallLimits | None
    answer: Answer | None


class ExecutorAdapter:
    """The executor of one run, and how to end it.

    It has a method for each thing that a run may ask of an executor: most are a line or two, and say what holds for an
    executor that cannot do it.

    Args:
        executor: The executor.
        capabilities: What it can do.
        terminator: Ends the executor without waiting; None leaves it open and usable, whatever happens.
        is_own: Whether the terminator is this package's own, not the user's.
        keep: Whether later runs use the executor too: then it is ended only if running calls cannot be ended in another
            way.

    Attributes:
        keep: As above; may be set to False until the end of the run.
        is_used_up: Whether the executor has been ended.
    """

    def __init__(
        self,
        executor: Executor,
        capabilities: Capabilities,
        terminator: Terminator | None,
        *,
        is_own: bool,
        keep: bool = False,
    ) -> None:
        self.executor = executor
        self.capabilities = capabilities
        self.submit: Callable[..., Any] = executor.submit if _takes_any_name(executor) else self._submit_bound
        self._terminator = terminator
        self.is_own = is_own
        self.keep: bool = keep
        self.is_used_up: bool = False
        self._detach: Callable[[], None] | None = None
        self._has_shared = False
        self._switched_on: list[Callable[[bool], None]] = []
        self._adopting: AdoptingExecutor | None = None  # in a run with a journal

    @property
    def kills(self) -> bool:
        """Whether `kill` really kills, and in little time."""
        return self.is_own and self.capabilities.kills_running

    @property
    def is_in_loop(self) -> bool:
        """Whether calls run on the thread of the run's loop."""
        return self.capabilities.in_loop

    def attach(self, run_step: Caller, gather: Caller | None) -> None:
        """Begin a run on the running loop.

        Args:
            run_step: Runs a step on the loop's thread, for an executor that computes there.
            gather: Calls a function that makes futures end, and handles all these ends at once; None if the loop's
                thread should not handle the executor's traffic.
        """
        executor: Any = self.executor
        if self.is_in_loop:
            executor.attach(run_step)
            self._detach = executor.detach
        elif (
            gather is not None
            and self.capabilities.driven_by_loop
            and executor.attach(asyncio.get_running_loop(), gather)
        ):
            self._detach = executor.detach

    def expect_end(self) -> None:
        """Announce that the run is about to end: calls that cannot be computed soon are not worth waiting for."""
        if self.capabilities.driven_by_loop:
            executor: Any = self.executor
            executor.expect_end()

    def put_logs(self, folder: Path) -> None:
        """Have workers that write logs write them into this folder, if none of them was started yet."""
        if self.capabilities.writes_logs:
            executor: Any = self.executor
            executor.put_logs(folder)

    def await_worker(self, fn: Callable[[], object]) -> bool:
        """Have `fn` called once a worker is up, on any thread; False if workers are there from the start."""
        if self.capabilities.workers_come_later:
            executor: Any = self.executor
            executor.when_up(fn)
        return self.capabilities.workers_come_later

    def keep_pickles(self) -> None:
        """Have futures keep the pickles of results until `release`, where workers send any; see `result_pickle`."""
        self._switch_on("keep_pickles")

    def measure_calls(self) -> None:
        """Have workers measure what calls use until `release`, where they can; see `ExecutionInfo.cpu`."""
        self._switch_on("measure_calls")

    def _switch_on(self, option: str) -> None:
        switch = getattr(self.executor, option, None)
        if switch is not None:
            switch(True)
            self._switched_on.append(switch)

    def adopt_calls(
        self, folder: Path, identify: Identify, ended_among: Callable[[Iterable[str]], set[str]]
    ) -> Callable[[], None] | None:
        """Let calls go on when this program dies, and find those of earlier programs, if the executor can do that.

        Args:
            folder: Where the executor keeps what it needs for that.
            identify: Says what a call is recognised by.
            ended_among: Which of the calls with these names have ended for good.

        Returns:
            What to call whenever everything that has happened is recorded; None if there is nothing to call.
        """
        if not self.capabilities.adopts_calls:
            return None
        adopting: Any = self.executor
        self._adopting = adopting
        adopting.attach_journal(folder, identify, ended_among)
        note_recorded: Callable[[], None] = adopting.note_recorded
        return note_recorded

    def has_call(self, identity: Callable[[], Identity]) -> bool:
        """Whether an earlier program has begun this call, and the executor will find it."""
        return self._adopting is not None and self._adopting.has_call(identity())

    def leave_calls(self) -> None:
        """Let calls go on while the run ends, if a later program can find them."""
        if self._adopting is not None:
            self._adopting.leave_calls()

    def release(self) -> None:
        """End a run."""
        if self._adopting is not None:
            self._adopting.detach_journal()
            self._adopting = None
        while self._switched_on:
            self._switched_on.pop()(False)
        if self.capabilities.workers_come_later:
            executor: Any = self.executor
            executor.when_up(None)
        if self._detach is not None:
            self._detach()
            self._detach = None

    def expect_shared(self) -> None:
        """From now on there may be handles of shared objects among arguments: put objects in their place."""
        if not self._has_shared:
            self._has_shared = True
            submit = self.submit
            self.submit = lambda function, /, *args, **kwargs: submit(function, *self._open(args), **self._open(kwargs))

    def _open(self, arguments: Any) -> Any:
        if not self._has_shared:
            return arguments
        from amltk.scheduling.executors.shared import put_in_place  # few programs need it

        return put_in_place(arguments, self.executor, self.capabilities)

    def submit_call(self, call: Prepared) -> Any:
        """Submit a call as the plugins have prepared it, within its limits; one that has an answer is not computed."""
        if call.answer is not None:
            return call.answer
        if call.limits is None:
            return self.submit(call.function, *call.args, **call.kwargs)
        executor: Any = self.executor  # only executors that enforce limits are given limits
        return executor.submit_limited(call.limits, call.function, *self._open(call.args), **self._open(call.kwargs))

    def submit_allowed(
        self, allowance: Allowance, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Submit a call that was granted resources.

        In this process's threads a call is only told what it has. Other executors give it that: the number of threads
        of libraries, its GPUs and limits; those whose workers cannot have them, by a process for each call.
        """
        from amltk.scheduling.executors.allowance import AllowedFunction, FunctionInOwnProcess

        told, threads, binding, limits = allowance
        if self.capabilities.in_process:
            return self.submit(AllowedFunction(function, told, None), *args, **kwargs)
        allowed = AllowedFunction(function, told, threads)
        if self.capabilities.binds_workers:
            executor: Any = self.executor
            return executor.submit_bound(binding, limits, allowed, *self._open(args), **self._open(kwargs))
        if binding is None and limits is None:
            return self.submit(allowed, *args, **kwargs)
        return self.submit(FunctionInOwnProcess(allowed, binding, limits), *args, **kwargs)

    def submit_placed(
        self,
        allowance: Allowance,
        wanted: Mapping[str, int],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        needs_time: float,
    ) -> Any:
        """The same where workers declare what they have: the call goes to one that has these units free.

        `needs_time` is how many seconds the call needs; 0.0 if that is not known.
        """
        from amltk.scheduling._admission.pools import GPU
        from amltk.scheduling.executors.allowance import AllowedFunction, FunctionInOwnProcess, FunctionWithLentDevices

        executor: Any = self.executor
        told, threads, binding, limits = allowance
        allowed: Callable[..., Any]
        if GPU in wanted:
            allowed = FunctionWithLentDevices(function, allowance, executor.lend, wanted[GPU])
        else:
            allowed = AllowedFunction(function, told, threads)
            if binding is not None or limits is not None:
                allowed = FunctionInOwnProcess(allowed, binding, limits)
        return executor.submit_placed(wanted, needs_time, allowed, *args, **kwargs)

    def why_waiting(self, work: Work[Any]) -> str | None:
        """Why a call in the executor has not begun, if the executor says so."""
        if not self.capabilities.places_calls or isinstance(work, Answer):
            return None
        executor: Any = self.executor
        why: str | None = executor.why_waiting(work)
        return why

    def when_left(self, work: Work[Any], fn: Callable[[], object]) -> None:
        """Call `fn` when no worker computes a cancelled call any more; at once if the executor cannot tell."""
        executor: Any = self.executor
        if self.capabilities.binds_workers:
            executor.when_left(work, fn)
        else:
            fn()

    def _submit_bound(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Have a call computed such that the executor takes none of its keyword arguments for one of its own."""
        return self.executor.submit(partial(function, **kwargs) if kwargs else function, *args)

    def withdraw(self, work: Work[Any]) -> None:
        """Cancel a call that has not begun; `end_calls` handles running ones, unless the executor is spared."""
        if self._is_spared() or not (self.capabilities.cancels_running and self.is_running(work)):
            self.cancel(work)

    def _is_spared(self) -> bool:
        return self.keep and self.capabilities.cancels_running and not self.is_broken()

    def cancel(self, work: Work[Any]) -> bool:
        """Cancel a call; returns whether that worked. If the executor raises, it did not."""
        try:
            return bool(work.cancel())
        except Exception:  # noqa: BLE001 - the executor may be gone; the future ends anyway
            _log.exception("an executor's future cannot be cancelled")
            return False

    def is_running(self, work: Work[Any]) -> bool:
        """Whether a call has begun, as far as the executor knows."""
        try:
            return bool(work.running())
        except Exception:  # noqa: BLE001 - as above
            _log.exception("an executor's future does not say whether it is running")
            return False

    def running_calls(self, oldest: Callable[[int], list[Work[Any]]]) -> list[Work[Any]] | None:
        """The calls that workers are running now; takes the same time however many calls are pending.

        Args:
            oldest: Returns the given number of oldest pending calls.

        Returns:
            The executor's futures; None if it does not list them, or could only do so by checking all pending calls.
        """
        if not self.capabilities.tells_running:
            return None
        executor: Any = self.executor
        if self.capabilities.lists_running:
            calls: list[Work[Any]] = executor.running_calls()
            return calls
        workers = _compat.max_workers(executor) or 0
        pending = oldest(MAX_LOOKED_AT + workers)
        unended = (work for work in pending if not (work.done() or isinstance(work, Answer)))
        if not self.capabilities.in_order and len(pending) >= MAX_LOOKED_AT:
            return None
        running = (takewhile if self.capabilities.in_order else filter)(self.is_running, unended)
        # Pools of processes say so of what lies ready for their workers as well, which can be at one call each only.
        return list(islice(running, workers or None))

    def is_broken(self) -> bool:
        """Whether a `BrokenExecutor` error is the executor's own and not that of a computed function.

        The standard library's executors, and those built on them, note it. For any other it is assumed.
        """
        return _compat.is_broken(self.executor)

    def may_have_ended_with(self, error: BaseException) -> bool:
        """Whether a call ended by `kill`, or by the signal behind it, may end with this error.

        Any error may be, if nothing is known about the executor or the user's own way to end it.
        """
        return not (self.is_own and self.capabilities.names_losses) or isinstance(error, LOSSES)

    def close(self) -> None:
        """Shut down after its calls are done, unless the executor is kept. May block."""
        if self._terminator is not None and not self.keep:
            self.is_used_up = True
            shut_down(self.executor, wait=True)
            _log.info("shut down %r", self.executor)

    def end_calls(self) -> None:
        """End the calls that `withdraw` left running. May block as long as termination takes."""
        if not self._is_spared():
            self.kill()

    def kill(self) -> None:
        """End the executor without waiting for its calls. May block like `end_calls`."""
        if self._terminator is not None:
            self.is_used_up = True
            prepare_kill(self.executor)
            self._terminator(self.executor)
            _log.info("ended %r without waiting for its work", self.executor)


def _takes_any_name(executor: Executor) -> bool:
    """Whether a keyword argument of whatever name is the function's, and none is the executor's, as far as it tells."""
    try:
        parameters = inspect.signature(executor.submit).parameters.values()
    except (TypeError, ValueError):
        return False
    return not any(parameter.kind in _NAMED for parameter in parameters)
