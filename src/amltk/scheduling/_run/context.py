"""What the parts of one run have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from amltk.scheduling._admission.pools import Pools
    from amltk.scheduling._loop.inbox import Inbox
    from amltk.scheduling._loop.turns import Turns
    from amltk.scheduling._run.dependencies import Dependencies
    from amltk.scheduling._run.lifecycle import RunLifecycle
    from amltk.scheduling._run.pending_calls import PendingCalls
    from amltk.scheduling._run.policy import RunOptions
    from amltk.scheduling.events import Channel, Event
    from amltk.scheduling.executors.adapter import ExecutorAdapter


@dataclass(frozen=True, slots=True)
class RunContext:
    """What each part of a run is made with. It owns nothing: see the types.

    Attributes:
        loop: The loop on whose thread everything is delivered.
        turns: Says when the loop needs a turn before the next input.
        inbox: Receives everything that happens.
        backend: The executor and how to terminate it.
        options: The user's options.
        pending_calls: The submissions that have not ended.
        dependencies: Those of them that wait for the results of others.
        lifecycle: The phase of the run, and why it ends.
        channel: Returns the channel of an event of the scheduler.
        pools: What calls may have to wait for.
        time_left: How many seconds are left until the timeout; infinite without one.
    """

    loop: asyncio.AbstractEventLoop
    turns: Turns
    inbox: Inbox
    backend: ExecutorAdapter
    options: RunOptions
    pending_calls: PendingCalls
    dependencies: Dependencies
    lifecycle: RunLifecycle
    channel: Callable[[Event[..., Any]], Channel]
    pools: Pools
    time_left: Callable[[], float]
