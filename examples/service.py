"""A service that computes in worker processes: one scheduler, which runs for as long as the server does.

`pip install fastapi uvicorn`, then `uvicorn service:app`
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException, Request

from amltk.exceptions import SchedulerNotRunningError, WorkerLostError
from amltk.scheduling import Scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOOK_FOR_CLIENT = 0.5
"""Seconds between two looks at whether the client is still there."""


def root(x: float, seconds: float) -> float:
    """Something expensive; it is computed in a worker."""
    time.sleep(seconds)
    return math.sqrt(x)


scheduler = Scheduler.with_processes(2)
roots = scheduler.task(root)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Run the scheduler beside the server. What is pending at the end is cancelled, and its workers are ended."""
    started = asyncio.Event()
    scheduler.on_start(started.set)
    run = asyncio.create_task(
        scheduler.async_run(end_on_empty=False, wait=False, on_exception="continue", on_cancelled="continue")
    )
    await started.wait()
    yield
    scheduler.stop()
    await run  # raises what has ended the run, if it was an error


app = FastAPI(lifespan=lifespan)


@app.get("/root")
async def answer(request: Request, x: float, seconds: float = 0.0) -> dict[str, float]:
    """Compute for one client."""
    try:
        future = roots.submit(x, seconds)
    except SchedulerNotRunningError as error:  # it says why: the run may have ended by an error
        raise HTTPException(503, str(error)) from error
    try:
        while not (await asyncio.wait([future], timeout=LOOK_FOR_CLIENT))[0]:
            if await request.is_disconnected():
                raise HTTPException(499, "the client has gone")
        return {"root": future.result()}
    except ValueError as error:  # the client's fault
        raise HTTPException(400, str(error)) from error
    except WorkerLostError as error:  # ours; the worker has been replaced
        raise HTTPException(500, str(error)) from error
    finally:
        future.cancel()  # where the client has gone or the server ends; else it has ended, and nothing happens


@app.get("/state")
async def state() -> dict[str, Any]:
    """How the scheduler is."""
    counts = scheduler.event_counts
    return {
        "running": scheduler.running(),
        "pending": scheduler.n_pending,
        "done": counts[scheduler.FUTURE_RESULT],
        "failed": counts[scheduler.FUTURE_EXCEPTION],
        "cancelled": counts[scheduler.FUTURE_CANCELLED],
    }
