"""Resources on the real engines: calls get what the workers declare."""

from __future__ import annotations

import importlib.util
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import ResourceUnavailableError
from amltk.scheduling import ExitState, Resources, Scheduler, granted
from tests.contract import engines, work
from tests.helpers import slurm as slurm_helper
from tests.helpers.gate import Gate, pass_gate
from tests.helpers.script import run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EXHAUSTED = ExitState(ExitState.Code.EXHAUSTED)
CUDA = "CUDA_VISIBLE_DEVICES"


def whereabouts() -> tuple[int, dict[str, Any], str | None]:
    """Return the pid, what was granted, and the GPUs that the process sees."""
    return os.getpid(), dict(granted()), os.environ.get(CUDA)


def at_gate(address: Any) -> tuple[int, dict[str, Any], str | None]:
    """Return the same, once the gate is open."""
    pass_gate(address)
    return whereabouts()


def refusals(scheduler: Scheduler, *wanted: dict[str, Any]) -> list[str]:
    """Return the error messages of calls that ask for this; for use in a callback of `@start`."""
    said = []
    for amounts in wanted:
        with pytest.raises(ResourceUnavailableError) as raised:
            scheduler.task(whereabouts, plugins=Resources(**amounts)).submit()
        said.append(str(raised.value))
    return said


# --------------------------------------------------------------------------------------------------------------- dask


@pytest.fixture
def dask_cluster() -> Iterator[Callable[..., Any]]:
    """A factory of Dask clusters whose workers have the given resources."""
    from distributed import SpecCluster
    from distributed.deploy.local import Nanny, Scheduler

    clusters = []

    def make(*workers: dict[str, float]) -> Any:
        specs = {
            n: {
                "cls": Nanny,
                "options": {"nthreads": 2, "resources": resources, "host": "127.0.0.1", "memory_limit": None},
            }
            for n, resources in enumerate(workers)
        }
        server = {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "port": 0}}
        clusters.append(SpecCluster(specs, server, silence_logs=False))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close()


@pytest.mark.integration
def test_dask_sends_calls_to_workers_that_have_what_they_ask_for(dask_cluster: Any) -> None:
    """Each call runs on a matching worker, with GPUs of its own, and never more at once than the resources allow."""
    scheduler = Scheduler.with_dask(dask_cluster({"GPU": 2}, {"big": 1}))
    two = scheduler.task(at_gate, plugins=Resources(gpu=1))
    big = scheduler.task(at_gate, plugins=Resources(big=1))
    seen: dict[Any, list[Any]] = {two: [], big: []}
    said: list[str] = []
    with Gate() as gate:

        @scheduler.on_start
        def launch() -> None:
            for _ in range(4):
                two.submit(gate.address)
            for _ in range(2):
                big.submit(gate.address)
            said.extend(refusals(scheduler, {"gpu": 3}, {"gpu": 1, "big": 1}, {"tpu": 1}))

        def look() -> None:
            said.append(scheduler.explain(two.queue[-1]))
            assert gate.present == 3
            gate.open()

        gate.when_begun(3, look)
        scheduler.on_future_result(lambda future, result: seen[future.task].append(result))
        assert scheduler.run() == EXHAUSTED
    assert [result[1] for result in seen[big]] == [{"big": 1}] * 2
    assert sorted((told["gpu"], variable) for _, told, variable in seen[two])[:1] == [(("0",), "0")]
    assert {(told["gpu"], variable) for _, told, variable in seen[two]} == {(("0",), "0"), (("1",), "1")}
    few, joint, unknown, waits = said
    assert "no worker of the Dask cluster has more than 2 of gpu" in few
    assert "no worker of the Dask cluster has all of it" in joint
    assert "tpu, which no worker of the Dask cluster declares; its pools are: big, gpu" in unknown
    assert waits == "waits for gpu: 1 wanted, 0 of 2 free; 1 call before it"


@pytest.mark.integration
def test_a_dask_worker_that_comes_later_is_noticed(dask_cluster: Any) -> None:
    """Calls wait, and say why, while there is no worker; the first suitable worker gets them."""
    cluster = dask_cluster()
    scheduler = Scheduler.with_dask(cluster)
    task = scheduler.task(whereabouts, plugins=Resources(licence=1))
    reasons: list[str] = []
    task.on_waiting(lambda _, reason: reasons.append(reason))
    results: list[Any] = []
    task.on_result(lambda _, result: results.append(result[1]))
    scheduler.on_start(lambda: task.submit())

    @task.on_waiting
    def start_worker(*_: Any) -> None:
        from distributed import Nanny

        options = {"nthreads": 1, "resources": {"licence": 1}, "host": "127.0.0.1", "memory_limit": None}
        cluster.worker_spec["late"] = {"cls": Nanny, "options": options}
        cluster.loop.add_callback(cluster._correct_state)

    assert scheduler.run() == EXHAUSTED
    assert reasons == ["waits for licence: 1 wanted, and no worker has any now; 0 calls before it"]
    assert results == [{"licence": 1}]


@pytest.mark.integration
def test_what_no_dask_worker_declares_is_counted_here(dask_cluster: Any) -> None:
    """A licence belongs to no worker: the scheduler's own `resources` count it across all workers."""
    scheduler = Scheduler.with_dask(dask_cluster({"cpu": 1}, {"cpu": 1}), resources={"licence": 1})
    task = scheduler.task(at_gate, plugins=Resources(licence=1, cpu=1))
    told: list[Any] = []
    task.on_result(lambda _, result: told.append(result[1]))
    with Gate() as gate:
        scheduler.on_start(lambda: [task.submit(gate.address) for _ in range(2)])

        def look() -> None:
            assert scheduler.explain(task.queue[-1]) == "waits for licence: 1 wanted, 0 of 1 free; 0 calls before it"
            gate.open()

        gate.when_begun(1, look)
        assert scheduler.run() == EXHAUSTED
    assert told == [{"licence": 1, "cpu": 1}] * 2


def test_shares_of_a_workers_gpus_are_put_on_one_that_has_room() -> None:
    """Dask only counts: if the free capacity is split over GPUs, a call waits in the worker until one has room."""
    from amltk.scheduling.executors.remote.dask.devices import WorkerDevices

    devices = WorkerDevices(20_000, ("a", "b", "c"))
    lent: list[Any] = []
    with devices.lend(7_500) as (first, binding), devices.lend(7_500) as (second, _):
        assert (first, second) == (("a",), ("b",))
        assert binding is not None
        assert (dict(binding.variables)[CUDA], binding.is_shared) == ("a", True)

        def wait() -> None:
            with devices.lend(5_000) as (ids, _):
                lent.append(ids)

        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not lent
    waiter.join()
    assert lent == [("a",)]
    with devices.lend(0) as (ids, binding):
        assert ids == ()
        assert binding is not None
        assert dict(binding.variables)[CUDA] == ""
    with pytest.raises(ResourceUnavailableError, match="has to grant 3 of gpu, and cannot: there are 2: a, b"):  # noqa: SIM117
        with devices.lend(30_000):
            pass


def test_a_worker_with_just_the_gpus_of_a_call_computes_it_itself() -> None:
    """The worker's process sees no other GPUs, so the call needs no process of its own."""
    from amltk.scheduling.executors.remote.dask.devices import WorkerDevices

    with WorkerDevices(10_000, ("GPU-3f",)).lend(10_000) as (ids, binding):
        assert (ids, binding) == (("GPU-3f",), None)


# ---------------------------------------------------------------------------------------------------------------- ray


def need_ray() -> None:
    """Skip the test if Ray is missing; Ray reads its settings when it is imported."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("!!! NOT TESTED ON RAY: it is not installed")
    os.environ.update(engines.RAY_SETTINGS)


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """A single-node Ray with two GPUs and a licence, which this process has joined."""
    need_ray()
    with engines.ray():
        yield


@pytest.mark.integration
def test_ray_grants_what_calls_ask_for(ray: None, caplog: pytest.LogCaptureFixture) -> None:
    """Ray's own scheduling never grants more than there is, and calls get the GPUs that Ray chose."""
    scheduler = Scheduler.with_ray({"num_cpus": 1})
    train = scheduler.task(at_gate, plugins=Resources(gpu=1, cpu=2))
    share = scheduler.task(whereabouts, plugins=Resources(gpu=0.5, licence=1, memory="100 MB"))
    missing = scheduler.task(whereabouts, plugins=Resources(tpu=1))
    seen: dict[Any, list[Any]] = {train: [], share: []}
    said: list[str] = []
    with Gate() as gate:

        @scheduler.on_start
        def launch() -> None:
            for _ in range(3):
                train.submit(gate.address)
            share.submit()
            missing.submit()

        def look() -> None:
            (never,) = missing.queue
            said.extend(scheduler.explain(future) for future in (train.queue[-1], never))
            never.cancel()
            gate.open()

        gate.when_begun(2, look)
        scheduler.on_future_result(lambda future, result: seen[future.task].append(result))
        assert scheduler.run(on_cancelled="continue") == EXHAUSTED
    assert {(told["gpu"], variable, told["cpu"]) for _, told, variable in seen[train]} == {
        (("0",), "0", 2),
        (("1",), "1", 2),
    }
    assert max(map(len, seen.values())) == 3
    ((_, told, variable),) = seen[share]
    assert told == {"gpu": (variable,), "licence": 1, "memory": 100_000_000}
    assert said[0].startswith("is with Ray, and runs, or waits there for gpu: 1 wanted, ")
    assert said[1] == "waits for a worker of the Ray cluster that has 1 of tpu; now there is none"
    assert "no worker of the Ray cluster declares tpu" in caplog.text


@pytest.mark.integration
def test_workers_of_ray_get_one_function_for_all_runs(ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray puts a function that is new to it where each worker has to fetch it: not one for each executor."""
    from ray._private.worker import global_worker

    exported: list[Any] = []
    manager: Any = global_worker.function_actor_manager
    export = manager.export
    monkeypatch.setattr(manager, "export", lambda function: (exported.append(function), export(function)))
    for _ in range(3):
        scheduler = Scheduler.with_ray()
        results: list[float] = []
        scheduler.on_start(lambda scheduler=scheduler: scheduler.submit(abs, -1.0))
        scheduler.on_future_result(lambda _, result, results=results: results.append(result))
        assert scheduler.run() == EXHAUSTED
        assert results == [1.0]
    assert len(exported) <= 1  # none if an earlier test has had it exported


@pytest.mark.integration
def test_what_a_ray_that_is_started_here_cannot_grant_is_refused() -> None:
    """A Ray started here has what `resources` says, and cannot grow."""
    need_ray()
    ended = run_script(f"""
        import os

        os.environ.update({engines.RAY_SETTINGS})
        from amltk.exceptions import ResourceUnavailableError
        from amltk.scheduling import Resources, Scheduler, granted

        resources = {{"cpu": 2, "gpu": 2, "memory": "1 GB", "licence": 1}}
        scheduler = Scheduler.with_ray(resources=resources, address="local", _node_ip_address="127.0.0.1")
        task = scheduler.task(lambda: dict(granted()), plugins=Resources(cpu=2, gpu=2, licence=1))

        @scheduler.on_start
        def launch():
            task.submit()
            for wanted in ({{"gpu": 3}}, {{"tpu": 1}}, {{"gpu": 1.5}}):
                try:
                    scheduler.task(abs, plugins=Resources(**wanted)).submit(1)
                except ResourceUnavailableError as error:
                    print(error)

        task.on_result(lambda future, told: print(told["cpu"], sorted(told["gpu"]), told["licence"]))
        scheduler.run()
        """)
    assert ended.code == 0, ended.errors
    few, unknown, crooked, told = ended.lines
    assert "no worker of the Ray cluster has more than 2 of gpu" in few
    assert "tpu, which no worker of the Ray cluster declares; its pools are: " in unknown
    assert "an amount above 1 must be a whole number" in crooked
    assert told == "2 ['0', '1'] 1"


def test_what_a_ray_has_is_said_once() -> None:
    """Contradicting amounts, and ids, which Ray assigns itself, are rejected before Ray is started."""
    need_ray()
    with pytest.raises(ValueError, match=r"resources\['cpu'\]=4: num_cpus=2 is given as well"):
        Scheduler.with_ray(num_cpus=2, resources={"cpu": 4})
    with pytest.raises(TypeError, match=r"resources\['gpu'\]=\['0'\]: must be an amount"):
        Scheduler.with_ray(resources={"gpu": ["0"]})


# -------------------------------------------------------------------------------------------------------------- slurm


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """A single-node Slurm with two GPUs."""
    with engines.slurm():
        yield


SHARED: dict[str, Any] = {
    "queue": "debug",
    "memory": "1GB",
    "walltime": "00:30:00",
    "interface": "lo",
    "scheduler_options": {"host": "127.0.0.1"},
}


@pytest.mark.integration
def test_calls_go_to_the_jobs_that_have_what_they_ask_for(slurm: None, tmp_path: Path) -> None:
    """Slurm gives each job of a group its GPU, and the calls in it see only that GPU."""
    scheduler = Scheduler.with_slurm(
        **SHARED,
        n_workers=1,
        log_directory=str(tmp_path),
        groups={
            "cpu": {"cores": 2},
            "gpu": {"n_workers": 2, "cores": 1, "resources": {"gpu": 1}, "job_extra_directives": ["--gres=gpu:1"]},
        },
    )
    train = scheduler.task(at_gate, plugins=Resources(gpu=1))
    score = scheduler.task(whereabouts, plugins=Resources(cpu=2))
    seen: dict[Any, list[Any]] = {train: [], score: []}
    said: list[str] = []
    with Gate() as gate:

        @scheduler.on_start
        def launch() -> None:
            for _ in range(3):
                train.submit(gate.address)
            for _ in range(2):
                score.submit()
            said.extend(refusals(scheduler, {"gpu": 2}, {"gpu": 1, "cpu": 2}, {"tpu": 1}))
            said.append(scheduler.explain(train.queue[0]))
            said.append(scheduler.explain(train.queue[-1]))

        gate.when_begun(2, gate.open)
        scheduler.on_future_result(lambda future, result: seen[future.task].append(result))
        assert scheduler.run() == EXHAUSTED
    assert {(told["gpu"], variable) for _, told, variable in seen[train]} == {(("0",), "0"), (("1",), "1")}
    assert [told for _, told, _ in seen[score]] == [{"cpu": 2}] * 2
    assert {pid for pid, *_ in seen[score]}.isdisjoint(pid for pid, *_ in seen[train])
    assert ["no worker of the jobs" in text for text in said] == [True, True, True, False, False]
    assert said[3] == "waits for a worker of the jobs that has 1 of gpu; now there is none"
    assert said[4] == "waits for gpu: 1 wanted, 0 of 2 free; 0 calls before it"
    slurm_helper.wait_until_empty()


@pytest.mark.integration
def test_jobs_of_one_shape_declare_what_they_have(slurm: None, tmp_path: Path) -> None:
    """The jobs declare their cores and memory, and what the user's own Dask worker arguments say."""
    scheduler = Scheduler.with_slurm(
        **SHARED,
        n_workers=1,
        cores=2,
        processes=1,
        log_directory=str(tmp_path),
        worker_extra_args=["--resources", "Licence=2"],
    )
    task = scheduler.task(whereabouts, plugins=Resources(cpu=2, memory="500 MB", licence=1))
    told: list[Any] = []
    task.on_result(lambda _, result: told.append(result[1]))
    said: list[str] = []
    scheduler.on_start(lambda: task.submit())
    scheduler.on_start(lambda: said.extend(refusals(scheduler, {"cpu": 3}, {"memory": "2 GB"})))
    assert scheduler.run() == EXHAUSTED
    assert told == [{"cpu": 2, "memory": 500_000_000, "licence": 1}]
    assert "no worker of the jobs has more than 2 of cpu" in said[0]
    assert "no worker of the jobs has more than 1 GB of memory" in said[1]
    slurm_helper.wait_until_empty()


JOB = {"n_workers": 1, "cores": 2, "memory": "1GB"}


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({}, "must be a dict with the options of each group"),
        ({"a": ["cores"]}, "must be a dict with the options of each group"),
        ({"a": {"cores": 2}}, r"groups\['a'\]\['n_workers'\]=None: must be a whole number"),
        ({"a": {**JOB, "scheduler_options": {}}}, r"groups\['a'\]: scheduler_options: this is not of a group"),
        ({"a": {**JOB, "kores": 2}}, r"groups\['a'\]: .*unexpected keyword argument 'kores'"),
        ({"a": {"n_workers": 1, "cores": 2}}, r"groups\['a'\]: You must specify how much cores and memory"),
        ({"a": {**JOB, "processes": 2, "resources": {"gpu": 2}}}, r"groups\['a'\]: processes=2: must be 1"),
        ({"a": {**JOB, "worker_extra_args": ["--resources", "gpu"]}}, "--resources gpu: must be like gpu=1,cpu=8"),
        ({"a": {**JOB, "resources": {"gpu": "x"}}}, r"groups\['a'\]\['resources'\]\['gpu'\]='x'"),
    ],
)
def test_bad_groups_are_refused(groups: Any, said: str) -> None:
    """A bad group is rejected at once, before anything is started, with an error that names it."""
    with pytest.raises((TypeError, ValueError), match=said):
        Scheduler.with_slurm(groups=groups)


def test_groups_do_not_grow_and_shrink() -> None:
    """Dask scales by the amount of work, without knowing which kind of worker that work needs."""
    with pytest.raises(ValueError, match="adaptive=True: not with groups="):
        Scheduler.with_pbs(groups={"a": JOB}, adaptive=True)


# --------------------------------------------------------------------------------------------------- counting only


@pytest.fixture(scope="module", params=["loky", "dask", "mpi", "process-pool-executor"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """An executor whose workers declare nothing."""
    with engines.mpi() if request.param == "mpi" else nullcontext():
        yield request.param


@pytest.mark.integration
def test_where_workers_declare_nothing_calls_are_counted(kind: str) -> None:
    """Each call has ids of its own, and a process that sees only these GPUs."""
    workers = {"n_workers" if kind == "dask" else "max_workers": 2}
    resources = {"gpu": ["a", "b"], "licence": 1}
    if kind == "process-pool-executor":
        scheduler = Scheduler(ProcessPoolExecutor(2), resources=resources)
    else:
        scheduler = getattr(Scheduler, f"with_{kind}")(resources=resources, **workers)
    task = scheduler.task(whereabouts, plugins=Resources(gpu=1))
    counted = scheduler.task(work.double, plugins=Resources(licence=1))
    results: list[Any] = []
    task.on_result(lambda _, result: results.append(result))
    scheduler.on_start(lambda: [task.submit() for _ in range(3)])
    scheduler.on_start(lambda: [counted.submit(n) for n in range(3)])
    assert scheduler.run() == EXHAUSTED
    assert len({pid for pid, *_ in results}) == 3
    assert all(told["gpu"] == (variable,) for _, told, variable in results)
    assert {variable for *_, variable in results} == {"a", "b"}
