"""What a picture of a run shows of resources and waiting calls."""

from __future__ import annotations

from typing import Any

from amltk.display import wording
from amltk.display.panel import Frame
from amltk.display.progress import Observer, Progress
from amltk.scheduling import Resources, Scheduler
from amltk.scheduling.snapshot import Counts, PoolUse, Snapshot, Waits
from amltk.testing import ManualExecutor
from tests.unit.display.drawing import lines

POOLS = ("gpu 2/2", "memory 8 GB/60 GB")
WAITS = "waiting 5 (3 gpu, 2 dependencies)"


def progress(**changes: Any) -> Progress:
    usual: dict[str, Any] = {
        "state": "running",
        "active": True,
        "elapsed": 12.0,
        "timeout": None,
        "rate": 92.5,
        "counts": Counts(8, 2, 0, 0, 0),
        "total": None,
        "to_go": None,
        "tasks": (),
        "calls": (),
        "failures": (),
    }
    return Progress(**usual | changes)


def headline(width: int, **changes: Any) -> list[str]:
    drawn = lines(Frame(progress(**changes), "threads", ()).picture(width, 40), width=width)
    end = next(n for n, line in enumerate(drawn) if "pending" in line)
    return [line.strip() for line in drawn[1:end]]


def test_the_headline_has_the_pools_where_there_is_room() -> None:
    """On a narrow screen the pools continue below the headline, and none is cut."""
    whole = "running   0:12 elapsed · 92.5/s"
    assert headline(100)[0] == whole
    assert headline(100, pools=POOLS[:1], waits=WAITS)[0] == f"{whole} · gpu 2/2 · {WAITS}"
    narrow = headline(50, pools=POOLS, waits=WAITS)
    assert narrow[:3] == [f"{whole} · gpu 2/2", "memory 8 GB/60 GB", WAITS]


def test_lines_of_text_have_them_too() -> None:
    """Pools are also shown in lines of text, without a terminal."""
    (line,) = Frame(progress(pools=POOLS, waits=WAITS), "threads", ()).lines(after=20)
    assert f"92.5/s, gpu 2/2, memory 8 GB/60 GB, {WAITS}" in line


def test_how_it_is_put() -> None:
    """Amounts are shown as users write them, and only those that calls wait for."""
    assert wording.pool(PoolUse("gpu", 0.5, 2)) == "gpu 0.5/2"
    assert wording.pool(PoolUse("memory", 8e9, 60e9)) == "memory 8 GB/60 GB"
    assert wording.waits(Waits()) == ""
    assert wording.waits(Waits(2000)) == "waiting 2,000"
    assert wording.waits(Waits(5, {"gpu": 3}, 2)) == WAITS
    assert wording.waits(Waits(1, {}, 1)) == "waiting 1 (1 dependency)"


def test_a_run_is_seen_so() -> None:
    """Two calls hold the GPUs, three wait for one, and two for the result of another; before and after: nothing."""
    scheduler = Scheduler(ManualExecutor(), resources={"gpu": ["0", "1"], "licence": 3})
    train = scheduler.task(abs, plugins=Resources(gpu=1))
    score = scheduler.task(abs)
    seen: list[tuple[Snapshot, Progress]] = []
    observer = Observer(scheduler, None, lambda: 0.0)

    @scheduler.on_start
    def launch() -> None:
        calls = [train.submit(n) for n in range(5)]
        for call in calls[:2]:
            score.submit(call)  # type: ignore[arg-type]
        seen.append((Snapshot.of(scheduler), observer.observe()))
        scheduler.stop()

    scheduler.run(wait=False)
    ((during, shown),) = seen
    after = Snapshot.of(scheduler)
    assert during.pools == (PoolUse("gpu", 2, 2), PoolUse("licence", 0, 3))
    assert during.waits == Waits(5, {"gpu": 3}, 2)
    assert (shown.pools, shown.waits) == (("gpu 2/2", "licence 0/3"), WAITS)
    assert after.waits == Waits()
