"""The queue of real runs, as a DataFrame and as a plot."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.queue_monitor import QueueMonitor
from tests.helpers.gate import Gate, pass_gate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes


pytestmark = pytest.mark.integration

PARTS = ["queued", "running", "finished", "cancelled"]


@pytest.fixture
def figures() -> Iterator[Any]:
    """pyplot without a window; its figures are closed afterwards."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate where work stops until the test opens it."""
    with Gate() as gate:
        yield gate


def watched(calls: int = 40) -> QueueMonitor:
    scheduler = Scheduler.with_threads(2)
    monitor = QueueMonitor(scheduler)
    scheduler.on_start(lambda: [scheduler.submit(sum, range(10_000)) for _ in range(calls)])
    scheduler.run()
    return monitor


def test_the_columns_are_those_that_users_know() -> None:
    """Times are the index, all numbers are whole, and the parts always add up to the queue size."""
    frame = watched().df(n_workers=2)
    assert list(frame.columns) == ["queue_size", *PARTS, "idle"]
    assert frame.index.name == "time"
    assert str(frame.index.dtype) == "datetime64[ns]"
    assert frame.index.is_monotonic_increasing
    assert set(map(str, frame.dtypes)) == {"int64"}
    assert (frame["queue_size"] == frame[PARTS].sum(axis=1)).all()
    assert (frame["idle"] == 2 - frame["running"]).all()
    assert frame["queue_size"].iloc[0] == frame["queue_size"].iloc[-1] == 0
    assert frame["queue_size"].max() == 40
    assert 1 <= frame["running"].max() <= 2


def test_as_many_workers_as_were_busy_if_not_told() -> None:
    """Without `n_workers`, the peak number of running calls is taken as the number of workers."""
    frame = watched().df()
    assert (frame["idle"] + frame["running"]).nunique() == 1
    assert (frame["idle"] + frame["running"]).iloc[0] == frame["running"].max()


@pytest.mark.parametrize("workers", [2, 3])
def test_what_runs_now_is_seen_during_the_run(gate: Gate, workers: int) -> None:
    """While more calls are pending than there are workers, the last row has one running call per worker."""
    scheduler = Scheduler.with_processes(workers)
    monitor = QueueMonitor(scheduler)
    last: list[Any] = []
    scheduler.on_start(lambda: [scheduler.submit(pass_gate, gate.address) for _ in range(5)])

    def look() -> None:
        # A worker reports what it has begun a little later: look again until it has.
        row = monitor.df(n_workers=workers).iloc[-1]
        if row["running"] < workers:
            scheduler.call_later(0.01, look)
            return
        last.append(row)
        gate.open()

    gate.when_begun(workers, lambda: scheduler.call_later(0, look))
    scheduler.run()
    assert (last[0]["queue_size"], last[0]["queued"], last[0]["running"], last[0]["idle"]) == (
        5,
        5 - workers,
        workers,
        0,
    )


def test_what_runs_is_not_known_where_the_executor_tells_nothing() -> None:
    """`running` is then empty, and running calls count as queued."""
    scheduler = Scheduler(ThreadPoolExecutor(2))
    monitor = QueueMonitor(scheduler)
    scheduler.on_start(lambda: [scheduler.submit(abs, n) for n in range(5)])
    scheduler.run()
    frame = monitor.df(n_workers=2)
    assert frame["running"].isna().all()
    assert (frame["queue_size"] == frame[["queued", "finished", "cancelled"]].sum(axis=1)).all()
    assert (frame["idle"] == (2 - frame["queued"]).clip(lower=0)).all()


def test_before_a_run_there_is_nothing(figures: Any) -> None:
    """There is no row, no error, and a plot without areas."""
    monitor = QueueMonitor(Scheduler.with_threads(1))
    assert len(monitor.df()) == 0
    assert monitor.plot(interval=(1, "s")).get_xlabel() == "seconds"


def test_long_runs_are_bounded() -> None:
    """Beyond the number of moments that are kept, rows are means over spans; the sum over time stays exact."""
    monitor = watched(calls=6000)
    frame = monitor.df(n_workers=2)
    assert len(frame) <= 2 * 4096
    assert set(map(str, frame.dtypes)) == {"float64"}
    assert frame["queue_size"].iloc[-1] == 0
    assert (frame["queue_size"] - frame[PARTS].sum(axis=1)).abs().max() < 1e-6 * 6000


def areas(ax: Axes) -> dict[str, list[float]]:
    """Return the upper edge of each area drawn, by name."""
    return {str(area.get_label()): [y for _, y in area.get_paths()[0].vertices] for area in ax.collections}


@pytest.mark.parametrize("interval", [(50, "ms"), (0.25, "ms"), (1, "s"), None])
def test_the_plot_stacks_all_parts(figures: Any, interval: Any) -> None:
    """There is one area for each part and one for idle, on new axes or on the ones given."""
    monitor = watched()
    ax = figures.subplots()[1]
    assert monitor.plot(ax=ax, interval=interval, n_workers=2) is ax
    drawn = areas(ax)
    assert list(drawn) == ["running", "idle", "queued", "finished", "cancelled"]
    assert max(drawn["running"]) <= 2 + 1e-9
    assert max(drawn["idle"]) == pytest.approx(2)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(drawn)[::-1]
    assert monitor.plot().figure is not ax.figure


def test_the_legend_is_within_the_axes_of_others(figures: Any) -> None:
    """In a figure with its own layout, a legend beside the axes could be cut off."""
    ax = watched().plot(ax=figures.subplots()[1])
    assert ax.get_legend().get_bbox_to_anchor().bounds == ax.bbox.bounds


def test_means_are_true(figures: Any) -> None:
    """The area under the means equals the area under the original data."""
    import pandas as pd

    from amltk.scheduling.queue_monitor.plot import means

    frame = watched().df(n_workers=2)

    def integral(table: pd.DataFrame) -> pd.Series:
        held = (table.index[1:] - table.index[:-1]).total_seconds().to_numpy()
        return table.iloc[:-1].mul(held, axis=0).sum()

    for length in ("1ms", "0.3ms", "10s"):
        wanted, found = integral(frame), integral(means(frame, pd.Timedelta(length)))
        assert found.to_dict() == pytest.approx(wanted.to_dict(), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("wrong", [(0, "s"), (-5, "ms"), (1, "fortnights"), 0, "1 fortnight", (1,)])
def test_a_wrong_interval_is_named(figures: Any, wrong: Any) -> None:
    """An invalid interval raises an error that says what is valid."""
    with pytest.raises(ValueError, match=r"interval=.*must be"):
        watched(1).plot(interval=wrong)
