"""Parquet files as columns that can be compared. The only user of pyarrow in this folder."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow

# Integers with no more distinct values in the reference than this are codes, not amounts.
CODES_MAX = 20
# pandas keeps row numbers in columns of this name.
INDEX_PREFIX = "__index_level_"


class TableError(Exception):
    """A file that cannot be compared; the message says which and why."""


class Kind(StrEnum):
    """How a column is compared."""

    NUMBER = "number"
    CATEGORY = "category"


@dataclass(frozen=True)
class ColumnPair:
    """One column of both files. As numbers: float64 with NaN for missing values; as categories:
    lists of text, numbers and None.
    """

    name: str
    kind: Kind
    reference: NDArray[np.float64] | list[Any]
    current: NDArray[np.float64] | list[Any]


@dataclass(frozen=True)
class TablePair:
    """All columns that both files have and that can be compared; `left_out` says which are not,
    by name, and why.
    """

    reference_rows: int
    current_rows: int
    columns: tuple[ColumnPair, ...]
    left_out: dict[str, str]


def read_pair(reference: Path, current: Path, exclude: Collection[str] = ()) -> TablePair:
    """exclude: names of columns to leave out, such as keys.

    Raises TableError if a file is no Parquet, has no rows, or nothing can be compared, and
    ImportError without pyarrow.
    """
    first, second = _read(reference), _read(current)
    names = set(first.column_names) & set(second.column_names)
    left_out = {
        name: f"only in {'the reference' if name in first.column_names else 'the current file'}"
        for name in sorted(set(first.column_names) ^ set(second.column_names))
    }
    columns = []
    for name in first.column_names:
        if name.startswith(INDEX_PREFIX):
            left_out[name] = "row numbers of pandas"
        elif name in names and name in exclude:
            left_out[name] = "excluded"
        elif name in names:
            pair = _pair(name, first.column(name), second.column(name))
            if isinstance(pair, str):
                left_out[name] = pair
            else:
                columns.append(pair)
    if not columns:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise TableError(f"{current}: no column can be compared with {reference} ({reasons})")
    return TablePair(first.num_rows, second.num_rows, tuple(columns), left_out)


def _read(path: Path) -> pyarrow.Table:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise ImportError("drift reports need pyarrow: pip install 'kedge[stats]'") from None
    try:
        # Not `read_table`, which takes a folder's name for a partition.
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path}: not readable as Parquet: {error}") from None
    if table.num_rows == 0:
        raise TableError(f"{path}: has no rows")
    if len(set(table.column_names)) < len(table.column_names):
        raise TableError(f"{path}: has two columns of one name")
    return table


def _pair(
    name: str, reference: pyarrow.ChunkedArray, current: pyarrow.ChunkedArray
) -> ColumnPair | str:
    """The pair, or why there is none."""
    kinds = {_kind(reference.type), _kind(current.type)}
    if None in kinds:
        found = next(one.type for one in (reference, current) if _kind(one.type) is None)
        return f"values of type {found} are not compared"
    if len(kinds) == 2:
        return f"{reference.type} in the reference, {current.type} in the current file"
    if kinds == {Kind.CATEGORY} or _are_codes(reference):
        return ColumnPair(name, Kind.CATEGORY, reference.to_pylist(), current.to_pylist())
    return ColumnPair(name, Kind.NUMBER, _numbers(reference), _numbers(current))


def _kind(datatype: pyarrow.DataType) -> Kind | None:
    from pyarrow import types  # noqa: PLC0415

    if types.is_dictionary(datatype):
        return _kind(datatype.value_type) and Kind.CATEGORY
    if types.is_boolean(datatype) or types.is_null(datatype):
        return Kind.CATEGORY
    if types.is_integer(datatype) or types.is_floating(datatype) or types.is_decimal(datatype):
        return Kind.NUMBER
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return Kind.CATEGORY if any(is_text(datatype) for is_text in texts) else None


def _are_codes(column: pyarrow.ChunkedArray) -> bool:
    from pyarrow import compute, types  # noqa: PLC0415

    is_integer = types.is_integer(column.type)
    return bool(is_integer and compute.count_distinct(column).as_py() <= CODES_MAX)


def _numbers(column: pyarrow.ChunkedArray) -> NDArray[np.float64]:
    import pyarrow as pa  # noqa: PLC0415

    return np.array(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
