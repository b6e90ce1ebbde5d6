"""What a compiled or exported program takes: dtype and range of every dimension, checked per call.

Neither kind of program looks at its inputs by itself: a package compiled for 64 rows reads 64 rows
from a buffer of 4 (tried), and guards of an exported program are source code of its author's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kedge.core.errors import InvalidRequest
from kedge.core.values import ModelSchema
from kedge.executors.tensors import TORCH_DTYPES

SIZE_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class InputBounds:
    """One input of a program. dims: the smallest and largest size of each dimension."""

    name: str
    dtype: torch.dtype
    dims: tuple[tuple[int, int], ...]

    def check(self, tensor: object) -> None:
        """Raises InvalidRequest if the program must not see `tensor`."""
        if not isinstance(tensor, torch.Tensor) or tensor.dtype is not self.dtype:
            got = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise InvalidRequest(f"input '{self.name}': expected {self.dtype}, got {got}")
        shape = tensor.shape
        if len(shape) != len(self.dims) or not tensor.is_contiguous():
            raise InvalidRequest(
                f"input '{self.name}': expected {len(self.dims)} dimensions, laid out row by row, "
                f"got {list(shape)} with strides {list(tensor.stride())}"
            )
        for i, (size, (least, most)) in enumerate(zip(shape, self.dims, strict=True)):
            if not least <= size <= most:
                raise InvalidRequest(
                    f"input '{self.name}': dimension {i} has {size} elements, the model takes "
                    + (f"{least} to {most}" if least < most else f"{least}")
                )


def check_inputs(bounds: Sequence[InputBounds], tensors: Sequence[object]) -> None:
    """Check every input. Raises InvalidRequest for the first that is wrong."""
    if len(tensors) != len(bounds):
        raise InvalidRequest(f"expected {len(bounds)} inputs, got {len(tensors)}")
    for bound, tensor in zip(bounds, tensors, strict=True):
        bound.check(tensor)


def declared_bounds(schema: ModelSchema, rows: tuple[int, int]) -> tuple[InputBounds, ...]:
    """The bounds that a declaration gives, for batches of `rows[0]` to `rows[1]` rows.

    BYTES, which no program takes, is not among the dtypes: callers refuse it before.
    """
    return tuple(
        InputBounds(
            spec.name,
            TORCH_DTYPES[spec.datatype.name],
            (
                *([rows] if schema.batched else []),
                *((dim, dim) if dim >= 0 else (0, SIZE_MAX) for dim in spec.dims),
            ),
        )
        for spec in schema.inputs
    )
