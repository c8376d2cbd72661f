"""Results that stay where they were computed go from worker to worker, not through this program."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import JournalUnsupportedError, WorkerLostError
from amltk.scheduling import ExitState, RemoteResult, RemoteResults, Retry, Scheduler
from tests.contract import work
from tests.contract.engines import RAY_SETTINGS
from tests.helpers.script import run_script

if TYPE_CHECKING:
    from pathlib import Path

    from amltk.scheduling import Future

EXHAUSTED = ExitState(ExitState.Code.EXHAUSTED)

PROGRAM = """
import os

os.environ.update({settings})
os.environ.pop("RAY_ADDRESS", None)  # of other tests
from amltk.scheduling import RemoteResults, Scheduler

SIZE = 150 << 20


def peak():
    # Not ru_maxrss: that begins with what the program has that starts this one.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) << 10


def make():
    return os.getpid(), bytes(SIZE)


def take(made, more):
    pid, data = made
    return os.getpid(), len(data) + len(more["there"][0][1])


if __name__ == "__main__":
    scheduler = Scheduler.{expression}
    making = scheduler.task(make, plugins={plugins})
    taking = scheduler.task(take)
    before = []

    @scheduler.on_start
    def launch():
        before.append(peak())
        made = making.submit()
        taking.submit(made, {{"there": [made]}})

    taking.on_result(lambda future, told: print(told[0] != os.getpid(), told[1] / SIZE))
    scheduler.run()
    print((peak() - before[0]) / SIZE > 0.5)
"""

ENGINES = {
    "dask": "with_dask(n_workers=2, memory_limit=None)",
    "ray": "with_ray({'num_cpus': 1}, num_cpus=2, _node_ip_address='127.0.0.1')",
}


@pytest.mark.integration
@pytest.mark.parametrize("plugins", ["RemoteResults()", "()"])
@pytest.mark.parametrize("engine", ENGINES)
def test_this_program_never_has_the_bytes(engine: str, plugins: str) -> None:
    """The program's memory grows by less than half of a large result passed between calls, or else by all of it."""
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"!!! NOT TESTED ON {engine}: it is not installed")
    ended = run_script(PROGRAM.format(settings=RAY_SETTINGS, expression=ENGINES[engine], plugins=plugins))
    assert ended.lines == ["True 2.0", str(plugins == "()")], ended.errors


def double(value: list[int]) -> list[int]:
    return value * 2


def fail(_: Any) -> None:
    raise OSError("no")


@pytest.mark.integration
@pytest.mark.parametrize(
    "expression", ["with_sequential()", "with_processes(2)", "with_dask(n_workers=2, memory_limit=None)"]
)
def test_callbacks_fetch_what_they_want(expression: str) -> None:
    """It works wherever the result is: on executors that send it here anyway, everything else is the same."""
    scheduler: Scheduler = eval(f"Scheduler.{expression}", {"Scheduler": Scheduler})
    staying = scheduler.task(double, plugins=[RemoteResults(), Retry(on=OSError, attempts=2)])
    plain = scheduler.task(double)
    failing = scheduler.task(fail, plugins=RemoteResults())
    got: list[Any] = []
    errors: list[BaseException] = []

    @staying.on_result
    def fetch(_: Future[Any], result: Any) -> None:
        assert isinstance(result, RemoteResult)
        got.append(result.fetch())

    plain.on_result(lambda _, result: got.append(result))
    failing.on_exception(lambda _, error: errors.append(error))

    @scheduler.on_start
    def launch() -> None:
        plain.submit(staying.submit(staying.submit([1]).as_argument()).as_argument())
        failing.submit(0)

    assert scheduler.run(on_exception="continue") == EXHAUSTED
    assert got == [[1] * 2, [1] * 4, [1] * 8]
    assert [str(error) for error in errors] == ["no"]


@pytest.mark.integration
def test_a_result_is_lost_with_its_worker() -> None:
    """A call that needs it, or a fetch, fails with an error; nothing is silently computed again."""
    scheduler = Scheduler.with_dask(n_workers=1, memory_limit=None)
    staying = scheduler.task(double, plugins=RemoteResults())
    taking = scheduler.task(double)
    dying = scheduler.task(work.die)
    kept: list[Any] = []
    errors: list[BaseException] = []
    staying.on_result(lambda future, result: (kept.extend([future, result]), dying.submit("kill")))
    dying.on_exception(lambda *_: taking.submit(kept[0]))
    taking.on_exception(lambda _, error: errors.append(error))
    scheduler.on_start(lambda: staying.submit([1]))

    @taking.on_exception
    def fetch(*_: Any) -> None:
        with pytest.raises(WorkerLostError, match="the result of double has stayed on its worker, and is lost"):
            kept[1].fetch()

    assert scheduler.run(on_exception="continue") == EXHAUSTED
    assert [type(error) for error in errors] == [WorkerLostError]


@pytest.mark.integration
def test_after_the_run_it_is_gone() -> None:
    """The workers of the run have ended, so fetching raises."""
    scheduler = Scheduler.with_dask(n_workers=1, memory_limit=None)
    staying = scheduler.task(double, plugins=RemoteResults())
    kept: list[Any] = []
    staying.on_result(lambda _, result: kept.append(result))
    scheduler.on_start(lambda: staying.submit([1]))
    scheduler.run()
    assert "bytes, on a worker" in repr(kept[0])
    with pytest.raises(WorkerLostError, match="and is lost"):
        kept[0].fetch()
    with pytest.raises(TypeError, match="pass the future of its call as an argument"):
        kept[0].__reduce__()


def test_a_run_with_a_journal_refuses_it(tmp_path: Path) -> None:
    """The journal could not record the value."""
    scheduler = Scheduler.with_sequential()
    staying = scheduler.task(double, plugins=RemoteResults())
    scheduler.on_start(lambda: staying.submit([1]))
    with pytest.raises(JournalUnsupportedError, match="remote-results"):
        scheduler.run(journal=tmp_path / "journal")
