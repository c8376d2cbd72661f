"""A service that computes in worker processes, with one scheduler that runs as long as the server.

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
"""Seconds between two checks whether the client is still connected."""


def root(x: float, seconds: float) -> float:
    """Something expensive, computed in a worker."""
    time.sleep(seconds)
    return math.sqrt(x)


scheduler = Scheduler.with_processes(2)
roots = scheduler.task(root)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Run the scheduler alongside the server. At the end, pending calls are cancelled and their workers are killed."""
    started = asyncio.Event()
    scheduler.on_start(started.set)
    run = asyncio.create_task(
        scheduler.async_run(end_on_empty=False, wait=False, on_exception="continue", on_cancelled="continue")
    )
    await started.wait()
    yield
    scheduler.stop()
    await run  # raises the error that ended the run, if any


app = FastAPI(lifespan=lifespan)


@app.get("/root")
async def answer(request: Request, x: float, seconds: float = 0.0) -> dict[str, float]:
    """Compute for one client and cancel if it disconnects."""
    try:
        future = roots.submit(x, seconds)
    except SchedulerNotRunningError as error:  # the message says why: an error may have ended the run
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
        future.cancel()  # if the client has gone or the server shuts down; a no-op if the future is done


@app.get("/state")
async def state() -> dict[str, Any]:
    """The scheduler's state."""
    counts = scheduler.event_counts
    return {
        "running": scheduler.running(),
        "pending": scheduler.n_pending,
        "done": counts[scheduler.FUTURE_RESULT],
        "failed": counts[scheduler.FUTURE_EXCEPTION],
        "cancelled": counts[scheduler.FUTURE_CANCELLED],
    }
