"""Resources that a cluster's workers declare: pools that grow and shrink, and requests no worker can ever grant."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import ResourceUnavailableError
from amltk.scheduling._admission.amounts import UNIT
from amltk.scheduling._admission.cluster import Cluster, WorkerKind
from amltk.scheduling._admission.demand import Demand
from amltk.scheduling._admission.pools import Pools

if TYPE_CHECKING:
    from collections.abc import Mapping


class Workers:
    """An executor whose workers declare resources."""

    place = "the test"
    remedy = "bring more"

    def __init__(self, *workers: Mapping[str, int], is_open: bool = False) -> None:
        self.is_open = is_open
        self.have(*workers)

    def have(self, *workers: Mapping[str, int]) -> None:
        self._workers = tuple(WorkerKind({name: n * UNIT for name, n in worker.items()}, 1) for worker in workers)

    def declared(self) -> tuple[WorkerKind, ...]:
        return self._workers


class Call:
    class task:
        name = "fit"


def pools_of(workers: Workers, resources: dict[str, Any] | None = None) -> Pools:
    pools = Pools(resources)
    pools.begin_run(lambda: None, Cluster(workers, counts=True))
    return pools


def needs(pools: Pools, **amounts: float) -> dict[str, int]:
    return {pool.name: units for pool, units in Demand(amounts).needs(pools, Call())}


def test_a_pool_has_what_all_workers_declare_together() -> None:
    """A pool grows and shrinks with the workers, and what is granted stays granted."""
    workers = Workers({"gpu": 2, "cpu": 4}, {"gpu": 1})
    pools = pools_of(workers)
    assert needs(pools, gpu=2, cpu=4) == {"gpu": 2 * UNIT, "cpu": 4 * UNIT}
    gpu = pools.known()["gpu"]
    assert (gpu.total, gpu.free) == (3 * UNIT, 3 * UNIT)
    grant = pools.grant([(gpu, 2 * UNIT)])
    workers.have({"gpu": 1})
    assert pools.cluster is not None
    pools.cluster.refresh()
    assert (gpu.total, gpu.free) == (UNIT, -UNIT)
    grant.give_back()
    pools.collect()
    assert (gpu.total, gpu.free) == (UNIT, UNIT)


@pytest.mark.parametrize(
    ("amounts", "said"),
    [
        ({"gpu": 3}, "3 of gpu, which can never be granted: no worker of the test has more than 2 of gpu"),
        ({"gpu": 2, "cpu": 8}, "2 of gpu, 8 of cpu, which can never be granted: no worker of the test has all of it"),
        ({"gpu": 1.5}, "an amount above 1 must be a whole number"),
        ({"tpu": 1}, "tpu, which no worker of the test declares; its pools are: cpu, gpu"),
    ],
)
def test_what_no_worker_can_grant_is_refused(amounts: dict[str, float], said: str) -> None:
    """One worker computes a call, so the sum over workers is irrelevant; the error says how to get more."""
    pools = pools_of(Workers({"gpu": 2}, {"gpu": 1, "cpu": 8}))
    with pytest.raises(ResourceUnavailableError, match=said):
        needs(pools, **amounts)


def test_without_any_worker_calls_wait_for_one() -> None:
    """Without a worker, calls wait whatever they request: the first worker's resources are unknown."""
    workers = Workers()
    pools = pools_of(workers)
    assert needs(pools, gpu=1) == {"gpu": UNIT}
    assert pools.known()["gpu"].total == 0
    workers.have({"gpu": 1})
    assert pools.cluster is not None
    pools.cluster.refresh()
    assert pools.known()["gpu"].free == UNIT


def test_an_open_cluster_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """An open cluster may start another kind of worker for a call; otherwise a log line says why the call waits."""
    pools = pools_of(Workers({"cpu": 8}, is_open=True))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert needs(pools, gpu=1, cpu=1) == {"gpu": UNIT, "cpu": UNIT}
    assert [record.getMessage() for record in caplog.records] == [
        "a call waits for a worker of another kind: no worker of the test declares gpu; bring more"
    ]


def test_what_the_user_has_given_counts_as_well() -> None:
    """The scheduler's own pool is asked first, and a worker must still have the amount."""
    pools = pools_of(Workers({"cpu": 4}), {"cpu": 2, "licence": 1})
    assert pools.named.keys() == {"cpu", "licence"}
    assert [pool for pool, _ in Demand({"cpu": 2, "licence": 1}).needs(pools, Call())] == list(pools.named.values())
    with pytest.raises(ResourceUnavailableError, match="there is 2 in all"):
        needs(pools, cpu=3)
