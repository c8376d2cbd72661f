"""Digests of arrays, data frames and tables, by what is in them. Loaded only for those."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from amltk.scheduling.plugins._support.keys.canonical import UnkeyedError, combine, of_buffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Digest = Callable[[Any], bytes]


def digest_data(value: Any, digest: Digest) -> bytes:
    """The digest of an object of NumPy, pandas or PyArrow.

    Args:
        value: The object.
        digest: Gives the digests of the Python objects in it.

    Raises:
        UnkeyedError: It is of a class that is not known here.
    """
    for base in type(value).__mro__:
        rule = _RULES.get(f"{base.__module__.partition('.')[0]}.{base.__name__}")
        if rule is not None and (base is type(value) or base.__name__ in _BASES):
            return rule(value, digest)
    cls = type(value)
    raise UnkeyedError(f"a value of type {cls.__module__}.{cls.__qualname__}")


def _of_array(array: Any, digest: Digest) -> bytes:
    parts = [repr(array.shape).encode(), *_content(array, digest)]
    return combine("array", parts)


def _content(array: Any, digest: Digest) -> Iterable[bytes]:
    """The type of the elements of an array, and their digest."""
    import numpy as np

    dtype = array.dtype
    yield dtype.str.encode()
    if dtype.names is not None:  # there may be anything between the fields
        for name in dtype.names:
            yield name.encode()
            yield _of_array(array[name], digest)
    elif dtype.hasobject:
        yield from map(digest, array.ravel().tolist())
    elif dtype.char in "gG":  # there may be anything in the bytes that pad it
        yield from (str(number).encode() for number in array.ravel())
    else:
        yield of_buffer(np.ascontiguousarray(array).view(np.uint8) if array.size else b"")


def _of_scalar(scalar: Any, digest: Digest) -> bytes:
    import numpy as np

    return combine("scalar", _content(np.asarray(scalar).reshape(1), digest))


def _of_dtype(dtype: Any, digest: Digest) -> bytes:
    return combine("dtype", [repr(dtype.descr).encode() if dtype.names else dtype.str.encode(), digest(dtype.shape)])


def _of_masked_array(array: Any, digest: Digest) -> bytes:
    import numpy as np

    return combine("masked", [_of_array(array.filled(), digest), _of_array(np.ma.getmaskarray(array), digest)])


def _of_series(series: Any, digest: Digest) -> bytes:
    return combine("Series", [digest(series.name), _of_index(series.index, digest), _of_column(series, digest)])


def _of_frame(frame: Any, digest: Digest) -> bytes:
    columns = (_of_column(frame.iloc[:, n], digest) for n in range(frame.shape[1]))
    return combine("DataFrame", [_of_index(frame.index, digest), _of_index(frame.columns, digest), *columns])


def _of_index(index: Any, digest: Digest) -> bytes:
    levels = [index.get_level_values(n) for n in range(index.nlevels)]
    return combine("Index", [digest(list(index.names)), *(_of_column(level, digest) for level in levels)])


def _of_column(column: Any, digest: Digest) -> bytes:
    """The digest of the values of a series or of an index, which pandas keeps in several ways."""
    import numpy as np

    kind = str(column.dtype).encode()
    if isinstance(column.dtype, np.dtype):
        return combine("column", [kind, *_content(column.to_numpy(), digest)])
    array = column.array
    if hasattr(array, "categories"):
        categories = [digest(bool(array.ordered)), _of_index(array.categories, digest)]
        return combine("categories", [*categories, *_content(array.codes, digest)])
    if hasattr(array, "asi8"):
        return combine("times", [kind, *_content(array.asi8, digest)])
    return combine("column", [kind, *map(digest, array.to_numpy(dtype=object).tolist())])


def _of_pandas_scalar(scalar: Any, digest: Digest) -> bytes:
    cls = type(scalar)
    return combine("pandas scalar", [cls.__name__.encode(), digest(repr(scalar))])


def _of_arrow(table: Any, digest: Digest) -> bytes:
    """By the bytes of its stream, in which a table has one piece, whatever its pieces were."""
    import pyarrow as pa

    if isinstance(table, pa.RecordBatch):
        return combine("RecordBatch", [_of_arrow(pa.Table.from_batches([table]), digest)])
    if isinstance(table, pa.Array | pa.ChunkedArray):
        return combine("Arrow array", [_of_arrow(pa.table({"": table}), digest)])
    table = table.replace_schema_metadata(None).unify_dictionaries().combine_chunks()
    sink = _Sink()
    with pa.PythonFile(sink, mode="w") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=1 << 62)
    return combine("Table", sink.parts)


class _Sink(io.RawIOBase):
    """Takes what is written as digests of its pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[bytes] = []

    def writable(self) -> bool:
        """It is for nothing else."""
        return True

    def write(self, data: Any, /) -> int:
        """Take one piece."""
        self.parts.append(of_buffer(data))
        return memoryview(data).nbytes


_RULES: dict[str, Callable[[Any, Digest], bytes]] = {
    "numpy.ndarray": _of_array,
    "numpy.memmap": _of_array,
    "numpy.MaskedArray": _of_masked_array,
    "numpy.generic": _of_scalar,
    "numpy.dtype": _of_dtype,
    "pandas.Series": _of_series,
    "pandas.DataFrame": _of_frame,
    "pandas.Index": _of_index,
    "pandas.Timestamp": _of_pandas_scalar,
    "pandas.Timedelta": _of_pandas_scalar,
    "pandas.Period": _of_pandas_scalar,
    "pandas.Interval": _of_pandas_scalar,
    "pandas.NAType": _of_pandas_scalar,
    "pandas.NaTType": _of_pandas_scalar,
    "pyarrow.Table": _of_arrow,
    "pyarrow.RecordBatch": _of_arrow,
    "pyarrow.Array": _of_arrow,
    "pyarrow.ChunkedArray": _of_arrow,
}

_BASES = frozenset({"generic", "dtype", "Index", "Array"})
"""The classes whose subclasses of the same library are what they are, too."""
