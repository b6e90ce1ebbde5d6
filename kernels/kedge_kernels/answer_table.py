"""What answers of a model version look like, packed for the writing kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from kedge_kernels._jit import kernel
from kedge_kernels._packing import Packer, record
from kedge_kernels.memory import as_pointer
from kedge_kernels.request_table import OUTPUTS_MAX
from kedge_kernels.wire import text_field, varint

# Layouts kept per table. Most models answer in one shape, some in a few: one per length of a text.
_LAYOUTS_MAX = 256


@dataclass(frozen=True)
class OutputPlan:
    """A declared output. datatype: the wire's word for it; item_bytes: per element, at least 1."""

    name: str
    datatype: str
    item_bytes: int


class AnswerTable:
    """The answers of one model version. batched: shapes begin with the number of rows.

    Raises ValueError for outputs that `encode` cannot write: more than 62, or elements without a
    fixed size (BYTES). Such models are answered through the protobuf library.
    """

    def __init__(
        self, name: str, version: int, outputs: Sequence[OutputPlan], batched: bool
    ) -> None:
        if len(outputs) > OUTPUTS_MAX or any(output.item_bytes < 1 for output in outputs):
            raise ValueError(
                f"answers of {name}:{version} cannot be encoded: expected at most {OUTPUTS_MAX} "
                f"outputs of fixed-size datatypes, got {[output.datatype for output in outputs]}"
            )
        self.outputs = tuple(outputs)
        self.batched = batched
        self.head = text_field(1, name) + text_field(2, str(version))
        self._layout = lru_cache(_LAYOUTS_MAX)(partial(AnswerLayout, self))

    def layout(self, dims: Sequence[tuple[int, ...]]) -> AnswerLayout:
        """The layout of answers whose outputs have these per-row dimensions."""
        return self._layout(tuple(dims))


# head: the fields name and datatype; dims: one row's dimensions as varints.
TENSOR_RECORD = record("head", "head_bytes", "dims", "dims_bytes", "row_bytes")


class AnswerLayout:
    """All of an answer that is known before its rows and its id. Keep it while `packed` is used.

    Raises ValueError for another number of outputs than the table's, or negative dimensions.
    """

    def __init__(self, table: AnswerTable, dims: tuple[tuple[int, ...], ...]) -> None:
        if len(dims) != len(table.outputs):
            raise ValueError(f"expected the dims of {len(table.outputs)} outputs, got {len(dims)}")
        self._packer = Packer()
        self.row_bytes = [
            output.item_bytes * prod(row_dims)
            for output, row_dims in zip(table.outputs, dims, strict=True)
        ]
        tensors = [
            (
                *self._packer.text(text_field(1, output.name) + text_field(2, output.datatype)),
                *self._packer.text(b"".join(map(varint, row_dims))),
                row_bytes,
            )
            for output, row_dims, row_bytes in zip(table.outputs, dims, self.row_bytes, strict=True)
        ]
        self.packed = self._packer.packed(
            table.batched,
            self._packer.text(table.head),
            self._packer.table(tensors, TENSOR_RECORD),
        )


class OpenLayout(NamedTuple):
    """A packed AnswerLayout as kernels see it."""

    batched: int
    head: int
    head_bytes: int
    tensors: NDArray[Any]


@kernel
def open_layout(packed: NDArray[np.int64]) -> OpenLayout:
    """The layout behind `AnswerLayout.packed`."""
    tensors = carray(as_pointer(packed[3]), packed[4], TENSOR_RECORD)
    return OpenLayout(packed[0], packed[1], packed[2], tensors)
