"""What can be granted: amounts, pools, and the GPUs of a machine."""

from __future__ import annotations

import math

import pytest

from amltk.scheduling._admission.amounts import UNIT, amount_of, amount_text, units_of
from amltk.scheduling._admission.devices import find_gpus, variables_for
from amltk.scheduling._admission.pools import IndexedPool, Pools, SumPool

LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)
  MIG 3g.20gb     Device  0: (UUID: MIG-1111)
  MIG 3g.20gb     Device  1: (UUID: MIG-2222)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb)
"""


@pytest.mark.parametrize(
    ("given", "units"),
    [(0, 0), (1, UNIT), (0.5, 5000), ("4 GB", 4 * 10**9 * UNIT), ("1 KiB", 1024 * UNIT), (0.1 + 0.2, 3000)],
)
def test_amounts_are_exact(given: float | str, units: int) -> None:
    """An amount is a whole number of ten-thousandths."""
    assert units_of("x", given) == units
    assert units_of("x", amount_of(units)) == units


@pytest.mark.parametrize("wrong", [-1, -0.5, math.nan, math.inf, "much", "4 parsec", 0.00001])
def test_wrong_amounts_are_refused(wrong: float | str) -> None:
    """An invalid amount raises an error that shows it."""
    with pytest.raises(ValueError, match="licence="):
        units_of("licence", wrong)


@pytest.mark.parametrize("wrong", [None, [1], True, b"1"])
def test_other_types_are_refused(wrong: object) -> None:
    """An amount is a number or a string."""
    with pytest.raises(TypeError, match="licence="):
        units_of("licence", wrong)


def test_amounts_are_shown_as_given() -> None:
    """Amounts have a short text form."""
    shown = [amount_text(units_of("x", given)) for given in (0.5, 16, "60 GB", "1.5 MB")]
    assert shown == ["0.5", "16", "60 GB", "1.5 MB"]


def test_a_share_is_packed_tight() -> None:
    """A share comes from the fullest device with room, so that whole devices stay free."""
    pool = IndexedPool("gpu", ("0", "1", "2"))
    assert [pool.take(5000), pool.take(3000), pool.take(5000), pool.take(UNIT)] == [("0",), ("0",), ("1",), ("2",)]
    assert (pool.free, pool.level) == (0, 5000)
    pool.give_back(UNIT, ("2",))
    assert pool.take(2000) == ("0",)


@pytest.mark.parametrize("after", [2000, 5000, 8000, UNIT, 2 * UNIT])
@pytest.mark.parametrize("units", [2000, 5000, 8000, UNIT, 2 * UNIT])
@pytest.mark.parametrize("taken", [(), (5000,), (5000, 9000), (UNIT, 3000)])
def test_what_is_left_after_a_grant_is_foreseen(after: int, units: int, taken: tuple[int, ...]) -> None:
    """`level_after` predicts the state after taking."""
    pool = IndexedPool("gpu", ("0", "1", "2"))
    for one in taken:
        pool.take(one)

    def has(amount: int) -> bool:
        return amount <= pool.level

    if has(after):
        foreseen = pool.level_after(after) >= units
        pool.take(after)
        assert foreseen == has(units)


def test_what_can_never_be_granted_says_why() -> None:
    """A pool knows its total, and that a share is part of one device."""
    assert "0, 1" in IndexedPool("gpu", ("0", "1")).why_never(3 * UNIT)
    assert "whole" in IndexedPool("gpu", ("0", "1")).why_never(15000)
    assert "60 GB" in SumPool("memory", units_of("x", "60 GB")).why_never(units_of("x", "61 GB"))
    assert not SumPool("cpu", 16 * UNIT).why_never(25000)


def test_a_grant_is_given_back_once() -> None:
    """A grant is given back only once, however often that is requested."""
    pools = Pools({"gpu": ["0", "1"], "cpu": 4})
    grant = pools.grant([(pools.named["gpu"], UNIT), (pools.named["cpu"], 2 * UNIT)])
    assert [pool.used for pool in pools.named.values()] == [UNIT, 2 * UNIT]
    for _ in range(3):
        grant.give_back()
    pools.collect()
    assert [pool.used for pool in pools.named.values()] == [0, 0]


@pytest.mark.parametrize(
    "wrong",
    [{"gpu": "all"}, {"gpu": ["0", "0"]}, {"gpu": -1}, {"licence": "many"}, {"a b": 1}, [1], {"gpu": ["0,1"]}],
)
def test_wrong_pools_are_refused(wrong: object) -> None:
    """Resources are validated at once."""
    with pytest.raises((TypeError, ValueError), match="resources"):
        Pools(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environ", "ids"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, ("2", "3")),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8932f937, MIG-1111"}, ("GPU-8932f937", "MIG-1111")),
        ({"CUDA_VISIBLE_DEVICES": ""}, ()),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, ("1",)),
        ({"ROCR_VISIBLE_DEVICES": "0,1"}, ("0", "1")),
        ({}, ("MIG-1111", "MIG-2222", "1")),
    ],
)
def test_gpus_are_those_that_the_program_may_use(environ: dict[str, str], ids: tuple[str, ...]) -> None:
    """The environment decides, or else nvidia-smi's list; UUIDs and MIG ids are kept."""
    assert find_gpus(environ, lambda: LISTED) == ids


def test_a_machine_without_gpus_has_none() -> None:
    """A machine whose nvidia-smi lists nothing has no GPUs."""
    assert find_gpus({}, lambda: "") == ()


def test_variables_name_the_devices_of_a_process() -> None:
    """The variables also fix CUDA's order; no devices means all are hidden; ROCm has its own variable."""
    assert variables_for(["0", "2"], {}) == {"CUDA_VISIBLE_DEVICES": "0,2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert variables_for([], {})["CUDA_VISIBLE_DEVICES"] == ""
    assert variables_for(["1"], {"ROCR_VISIBLE_DEVICES": "0,1"}) == {"ROCR_VISIBLE_DEVICES": "1"}
