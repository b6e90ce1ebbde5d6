"""Raw contents of requests of different lengths, each padded with zeros, in one batch's buffer."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from kedge_kernels._jit import brief_kernel, kernel
from kedge_kernels.fields import INPUTS, ROWS
from kedge_kernels.memory import is_contiguous
from kedge_kernels.region import block_bytes_within, copy_region


@brief_kernel
def gather_padded_input(
    fields: NDArray[Any],
    k: int,
    sizes_start: int,
    dims: NDArray[Any],
    item_bytes: int,
    destination: NDArray[Any],
) -> int:
    """Copies input k of every request to `destination`, uint8[b], contiguous, where a row has the
    dimensions `dims`, int64[rank]; a request's own are in its columns from `sizes_start` on.

    What is beyond a request's own sizes is 0. Answers the bytes written, never more than b; -1 if
    there were more to write, or contents and sizes of a request do not agree.
    """
    return append_padded(fields, k, sizes_start, dims, item_bytes, destination)


@kernel
def gather_long_padded_input(
    fields: NDArray[Any],
    k: int,
    sizes_start: int,
    dims: NDArray[Any],
    item_bytes: int,
    destination: NDArray[Any],
) -> int:
    """As `gather_padded_input`, without the GIL."""
    return append_padded(fields, k, sizes_start, dims, item_bytes, destination)


@kernel
def append_padded(
    fields: NDArray[Any],
    k: int,
    sizes_start: int,
    dims: NDArray[Any],
    item_bytes: int,
    destination: NDArray[Any],
) -> int:
    """What `gather_padded_input` and `gather_long_padded_input` share."""
    row_bytes = block_bytes_within(dims, item_bytes, destination.size)
    if row_bytes < 1 or not is_contiguous(destination):
        return -1
    written = 0
    for request in range(fields.shape[0]):
        rows = fields[request, ROWS]
        if rows < 0 or rows > (destination.size - written) // row_bytes:
            return -1
        sizes = fields[request, sizes_start : sizes_start + dims.size]
        own_bytes = rows * item_bytes
        for j in range(dims.size):
            if sizes[j] < 0 or sizes[j] > dims[j]:
                return -1
            own_bytes *= sizes[j]
        if own_bytes != fields[request, INPUTS + 2 * k + 1]:
            return -1
        padded_bytes = rows * row_bytes
        if own_bytes < padded_bytes:
            destination[written : written + padded_bytes] = 0
        source = fields[request, INPUTS + 2 * k]
        target = destination.ctypes.data + written
        copy_region(source, sizes, target, dims, sizes, item_bytes, rows)
        written += padded_bytes
    return written
