"""PyArrow tables are equal by content, however they are chunked."""

from __future__ import annotations

import pytest

from amltk.scheduling.plugins._support.keys.canonical import digest

pa = pytest.importorskip("pyarrow")

TABLE = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})


def test_same() -> None:
    """Neither chunks nor metadata nor an offset into a larger table matter."""
    same = [
        pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)]),
        TABLE.replace_schema_metadata({"from": "elsewhere"}),
        pa.concat_tables([TABLE, TABLE]).slice(3),
    ]
    assert {digest(table) for table in same} == {digest(TABLE)}
    assert digest(TABLE.slice(1)["b"]) == digest(pa.chunked_array([[None, "z"]]))


def test_different() -> None:
    """Other rows, columns, names, types and kinds of objects give different digests."""
    batch = TABLE.to_batches()[0]
    values = [
        TABLE,
        batch,
        TABLE["a"],
        batch["a"].cast("int32"),
        TABLE.slice(1),
        TABLE.select(["a"]),
        TABLE.rename_columns(["a", "c"]),
        TABLE.set_column(0, "a", TABLE["a"].cast("int32")),
        TABLE.set_column(1, "b", TABLE["b"].dictionary_encode()),
        pa.table({}),
    ]
    assert len({digest(value) for value in values}) == len(values)
