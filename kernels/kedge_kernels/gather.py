"""Raw contents of many requests, one behind another in the buffer of a batch."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from kedge_kernels._jit import brief_kernel, kernel
from kedge_kernels.fields import INPUTS
from kedge_kernels.memory import copy_bytes, is_contiguous


@brief_kernel
def gather_input(fields: NDArray[Any], k: int, destination: NDArray[Any]) -> int:
    """Copies input k of every request to `destination`, uint8[b], contiguous. Answers the bytes
    written, never more than b; -1 if there were more to write.
    """
    return append_contents(fields, k, destination)


@kernel
def gather_long_input(fields: NDArray[Any], k: int, destination: NDArray[Any]) -> int:
    """As `gather_input`, without the GIL."""
    return append_contents(fields, k, destination)


@kernel
def append_contents(fields: NDArray[Any], k: int, destination: NDArray[Any]) -> int:
    """What `gather_input` and `gather_long_input` share."""
    if not is_contiguous(destination):
        return -1
    target = destination.ctypes.data
    column = INPUTS + 2 * k
    written = 0
    for request in range(fields.shape[0]):
        size = fields[request, column + 1]
        if size < 0 or size > destination.size - written:
            return -1
        copy_bytes(target + written, fields[request, column], size)
        written += size
    return written
