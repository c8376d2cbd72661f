"""A Dask cluster of many light workers in this process: prints its address when all are connected, ends with its input.

They share one loop, and have neither nannies nor a dashboard. What they cost is not measured: the driver is elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile

import dask

QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.tick.interval": "1h",
    "distributed.admin.system-monitor.interval": "1h",
    "distributed.scheduler.worker-ttl": None,
    "distributed.comm.timeouts.connect": "300s",
    "distributed.comm.timeouts.tcp": "300s",
}
AT_ONCE = 50
"""How many workers connect at a time."""


async def serve(n_workers: int, folder: str) -> None:
    from distributed import Scheduler, Worker

    def worker(address: str) -> Worker:
        options = {"memory_limit": 0, "dashboard": False, "local_directory": folder, "heartbeat_interval": "30s"}
        return Worker(address, nthreads=1, **options)

    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        workers: list[Worker] = []
        while len(workers) < n_workers:
            more = min(AT_ONCE, n_workers - len(workers))
            workers += await asyncio.gather(*(worker(scheduler.address) for _ in range(more)))
        print(scheduler.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # closing a thousand workers would take longer than the measurement


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    dask.config.set(QUIET)
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(serve(int(sys.argv[1]), scratch))
