"""Milliseconds a tool takes to end while its two workers sleep, and the processes it leaves behind."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from typing import Any

import psutil
from _clusters import dask_cluster, start_ray
from _functions import sleep
from _leaving import has_ended
from _pools import WORKERS
from _report import report

PENDING = 6
LONG = 600.0
UP = 2.0
"""Seconds after which the workers are certainly busy."""

End = Callable[[], Any]


def loky() -> End:
    from loky import ProcessPoolExecutor

    pool = ProcessPoolExecutor(WORKERS)
    for _ in range(PENDING):
        pool.submit(sleep, LONG)
    return lambda: pool.shutdown(kill_workers=True)


def pebble() -> End:
    from pebble import ProcessPool

    pool = ProcessPool(max_workers=WORKERS)
    for _ in range(PENDING):
        pool.schedule(sleep, args=[LONG])

    def end() -> None:
        pool.stop()
        pool.join()

    return end


def mpire() -> End:
    from mpire import WorkerPool

    pool = WorkerPool(n_jobs=WORKERS)
    for _ in range(PENDING):
        pool.apply_async(sleep, (LONG,))
    return pool.terminate


def dask() -> End:
    from distributed import Client

    cluster = dask_cluster()
    client = Client(cluster)
    kept = [client.submit(sleep, LONG, pure=False) for _ in range(PENDING)]

    def end() -> None:
        kept.clear()
        client.close()
        cluster.close()

    return end


def ray() -> End:
    import ray

    start_ray()
    kept = [ray.remote(sleep).remote(LONG) for _ in range(PENDING)]

    def end() -> None:
        ray.shutdown()
        kept.clear()

    return end


TOOLS: dict[str, Callable[[], End]] = {"loky": loky, "pebble": pebble, "mpire": mpire, "dask": dask, "ray": ray}
"""The tools that can end at once. The standard library's pool and executorlib cannot."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=TOOLS)
    end = TOOLS[parser.parse_args().tool]()
    time.sleep(UP)
    started = psutil.Process().children(recursive=True)
    began = time.perf_counter()
    end()
    seconds = time.perf_counter() - began
    left = [process for process in started if not has_ended(process)]
    left = [process for process in left if not any("tracker" in word for word in process.cmdline())]
    report(overrun_milliseconds=seconds * 1e3, left_behind=len(left))
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    main()
