"""Arrays and data frames are equal by content and types, whatever their memory layout."""

from __future__ import annotations

from typing import Any

import pytest

from amltk.scheduling.plugins._support.keys.canonical import UnkeyedError, digest

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (np.arange(10)[::2], np.array([0, 2, 4, 6, 8])),
        (np.asfortranarray(np.ones((2, 3))), np.ones((2, 3))),
        (pd.DataFrame({"a": [1, 2], "b": ["x", None]}), pd.DataFrame({"a": [1, 2], "b": ["x", None]})),
        (pd.Series([1, 2], index=[0, 1]), pd.Series([1, 2])),
        (pd.DataFrame(np.arange(4).reshape(2, 2)), pd.DataFrame({0: [0, 2], 1: [1, 3]})),
        (np.zeros(100_000)[::-1], np.zeros(100_000)),
    ],
)
def test_same(one: Any, same: Any) -> None:
    """Neither an array's memory layout nor how a frame was built matters."""
    assert digest(one) == digest(same)


DIFFERENT = [
    1, 1.0, [1],
    np.int64(1), np.float32(1), np.float64(1), np.array(1), np.array([1]), np.array([[1]]), np.array([1], "i4"),
    np.array([1], ">i4"), np.array(["1"]), np.array([1], object), np.array([(1, 2)], "i4,i4"), np.dtype("i4"),
    np.ma.array([1], mask=[True]), np.array([1], "M8[s]"), np.array([1], "M8[ms]"), np.zeros((0, 1)), np.zeros((0, 2)),
    np.longdouble(1), pd.Series([1]), pd.Series([1], name="1"), pd.Series([1], index=[1]), pd.DataFrame({"a": [1]}),
    pd.DataFrame({"b": [1]}), pd.DataFrame({"a": [1.0]}), pd.DataFrame({"a": pd.array([1], "Int64")}), pd.Index([1]),
    pd.DataFrame({"a": pd.array([None], "Int64")}), pd.Series(pd.Categorical(["a"])), pd.Series(["a"], dtype=object),
    pd.Series(pd.Categorical(["a"], ["a", "b"])), pd.Series(pd.to_datetime(["2020"])), pd.Timestamp("2020"), pd.NA,
    pd.NaT, pd.Series(pd.to_datetime(["2020"]).tz_localize("UTC")), pd.MultiIndex.from_tuples([(1, 2)]),
    np.zeros(100_000), np.zeros(100_001), np.zeros((2, 50_000)), np.zeros(100_000, "i8"),
]  # fmt: skip


def test_different() -> None:
    """Values of different types, shapes or content have different digests, and the digest of each is stable."""
    assert len({digest(value) for value in DIFFERENT}) == len(DIFFERENT)
    assert [digest(value) for value in DIFFERENT] == [digest(value) for value in DIFFERENT]


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_what_has_no_digest() -> None:
    """Subclasses that may hold more, and unsupported objects in arrays, are rejected."""

    class Frame(pd.DataFrame):  # type: ignore[misc]
        pass

    for value in (np.matrix([1]), np.array([object()]), Frame({"a": [1]}), pd.Series([object()])):
        with pytest.raises(UnkeyedError):
            digest(value)
