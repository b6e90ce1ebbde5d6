"""Part of a dense array to part of another one: what padding and cutting have in common."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from kedge_kernels._jit import kernel
from kedge_kernels.memory import copy_bytes


@kernel
def copy_region(
    source: int,
    source_dims: NDArray[Any],
    target: int,
    target_dims: NDArray[Any],
    sizes: NDArray[Any],
    item_bytes: int,
    blocks: int,
) -> None:
    """Copies the first sizes[j] along each axis j of `blocks` row-major blocks, which lie one
    behind another at the addresses `source` and `target`, there with `source_dims`, here with
    `target_dims`.

    int64[rank] each; the caller knows that sizes[j] is at most both dims[j], that axes of equal
    dims are copied whole, and that all blocks lie in memory that it may read or write.
    """
    axis = -1  # the last one along which the two differ: behind it everything is in one piece
    for j in range(sizes.size):
        if source_dims[j] != target_dims[j]:
            axis = j
    run = source_run = target_run = item_bytes
    for j in range(max(axis, 0), sizes.size):
        run *= sizes[j]
        source_run *= source_dims[j]
        target_run *= target_dims[j]
    runs = 1
    source_block = source_run
    target_block = target_run
    for j in range(axis):
        runs *= sizes[j]
        source_block *= source_dims[j]
        target_block *= target_dims[j]
    if run == 0:
        return
    for block in range(blocks):
        for number in range(runs):
            left = number
            begin = block * source_block
            end = block * target_block
            source_stride = source_run
            target_stride = target_run
            for j in range(axis - 1, -1, -1):
                index = left % sizes[j]
                left //= sizes[j]
                begin += index * source_stride
                end += index * target_stride
                source_stride *= source_dims[j]
                target_stride *= target_dims[j]
            copy_bytes(target + end, source + begin, run)


@kernel
def block_bytes_within(dims: NDArray[Any], item_bytes: int, bytes_max: int) -> int:
    """Bytes of one block of `dims`; -1 if a dimension is negative or the bytes exceed `bytes_max`,
    without ever overflowing.
    """
    total = item_bytes
    for j in range(dims.size):
        if dims[j] < 0 or (dims[j] > 0 and total > bytes_max // dims[j]):
            return -1
        total *= dims[j]
    return total if total <= bytes_max else -1
