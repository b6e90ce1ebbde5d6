"""Rows of a padded output, cut back to the length that their requests had."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from kedge_kernels._jit import brief_kernel, kernel
from kedge_kernels.fields import ROWS
from kedge_kernels.memory import is_contiguous
from kedge_kernels.region import block_bytes_within, copy_region

ROW_BYTES_MAX = 1 << 48  # more than any memory, and far from where an int64 ends


@brief_kernel
def cut_output(
    fields: NDArray[Any],
    chosen: NDArray[Any],
    data: NDArray[Any],
    dims: NDArray[Any],
    sizes: NDArray[Any],
    item_bytes: int,
    destination: NDArray[Any],
) -> int:
    """Copies the rows of the requests r with chosen[r] from `data`, uint8[a], which has all rows
    with the dimensions `dims`, to `destination`, uint8[b], where they have the dimensions `sizes`.

    Answers the bytes written, never more than b; -1 if there were more to write, or `data` has not
    the rows of all requests.
    """
    return copy_cut(fields, chosen, data, dims, sizes, item_bytes, destination)


@kernel
def cut_long_output(
    fields: NDArray[Any],
    chosen: NDArray[Any],
    data: NDArray[Any],
    dims: NDArray[Any],
    sizes: NDArray[Any],
    item_bytes: int,
    destination: NDArray[Any],
) -> int:
    """As `cut_output`, without the GIL."""
    return copy_cut(fields, chosen, data, dims, sizes, item_bytes, destination)


@kernel
def copy_cut(
    fields: NDArray[Any],
    chosen: NDArray[Any],
    data: NDArray[Any],
    dims: NDArray[Any],
    sizes: NDArray[Any],
    item_bytes: int,
    destination: NDArray[Any],
) -> int:
    """What `cut_output` and `cut_long_output` share."""
    row_bytes = block_bytes_within(dims, item_bytes, ROW_BYTES_MAX)
    own_bytes = block_bytes_within(sizes, item_bytes, ROW_BYTES_MAX)
    if row_bytes < 1 or own_bytes < 0 or not (is_contiguous(data) and is_contiguous(destination)):
        return -1
    for j in range(dims.size):
        if sizes[j] > dims[j]:
            return -1
    rows_left = data.size // row_bytes
    begin = 0
    written = 0
    for request in range(fields.shape[0]):
        rows = fields[request, ROWS]
        if rows < 0 or rows > rows_left:
            return -1
        if chosen[request]:
            if own_bytes > 0 and rows > (destination.size - written) // own_bytes:
                return -1
            source = data.ctypes.data + begin
            target = destination.ctypes.data + written
            copy_region(source, dims, target, sizes, sizes, item_bytes, rows)
            written += rows * own_bytes
        begin += rows * row_bytes
        rows_left -= rows
    return written if begin == data.size else -1
