"""Requests of different lengths in one batch: sizes rounded up, contents padded, answers cut."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from kedge_kernels.cut_output import cut_long_output, cut_output
from kedge_kernels.fields import INPUTS, ROWS
from kedge_kernels.gather_padded import gather_long_padded_input, gather_padded_input
from kedge_kernels.round_up import round_up_sizes

Sizes = NDArray[np.int64]
Buffer = NDArray[np.uint8]

# As for `codec.gather`: copies of more bytes give the GIL away, they take over 50 us.
_BRIEF_BYTES_MAX = 1 << 20


def round_up(
    sizes: Sizes, free: NDArray[np.bool_], buckets: Sizes, alike: bool
) -> tuple[Sizes, int]:
    """The padded sizes, int64[n, d], and how many rows of them are refused and therefore -1.

    sizes: int64[n, d], a row per request. A size in a column c with free[c] becomes the smallest
    of `buckets`, int64[b] ascending, that is not smaller. Refused is what is larger than all
    buckets and, with `alike`, whose free sizes are not all the same.
    """
    assert sizes.shape[1] == len(free), "one mark for each column"
    padded = np.empty(sizes.shape, np.int64)
    # Of one type for Numba, whatever they are columns of.
    sizes = np.ascontiguousarray(sizes)
    return padded, round_up_sizes(sizes, free, buckets, alike, padded)


def gather_padded(
    fields: Sizes,
    sizes_start: int,
    dims: Sequence[tuple[int, ...]],
    item_bytes: Sequence[int],
    destinations: Sequence[Buffer],
) -> None:
    """Fills destination k, uint8[b], with the raw contents of input k of all requests, one behind
    another in the order of `fields`, each row padded with zeros at the end of each axis to dims[k].

    From column `sizes_start` on, `fields` has the requests' own sizes of all inputs, one input
    behind another. ValueError if a request's contents have not exactly these sizes, or sizes beyond
    `dims`, or the rows of all are not exactly b bytes; a destination may then be partly written.
    """
    fields = np.ascontiguousarray(fields)
    columns = sizes_start + sum(map(len, dims))
    if not INPUTS + 2 * len(dims) <= sizes_start <= columns <= fields.shape[1]:
        raise ValueError(f"{fields.shape[1]} columns do not hold the sizes of {len(dims)} inputs")
    for k, (row, item, destination) in enumerate(zip(dims, item_bytes, destinations, strict=True)):
        is_brief = destination.size <= _BRIEF_BYTES_MAX
        fill = gather_padded_input if is_brief else gather_long_padded_input
        row_dims = np.array(row, np.int64)
        if fill(fields, k, sizes_start, row_dims, item, destination) != destination.size:
            raise ValueError(
                f"input {k}: contents of {fields[:, INPUTS + 2 * k + 1].tolist()} bytes and sizes "
                f"{fields[:, sizes_start : sizes_start + len(row)].tolist()} do not fill a batch "
                f"of {destination.size} bytes with rows of {row}"
            )
        sizes_start += len(row)


def cut(
    fields: Sizes,
    chosen: NDArray[np.bool_],
    data: Buffer,
    dims: tuple[int, ...],
    sizes: tuple[int, ...],
    item_bytes: int,
) -> Buffer:
    """The rows of the requests r with chosen[r], each cut from `dims` to `sizes`.

    data: uint8[b], all rows of all requests in the order of `fields`. ValueError if it is not.
    """
    assert len(chosen) == len(fields), "one mark for each request"
    assert len(dims) == len(sizes), "the same axes"
    rows = int(fields[:, ROWS] @ chosen)
    destination = np.empty(rows * item_bytes * prod(sizes), np.uint8)
    take = cut_output if destination.size <= _BRIEF_BYTES_MAX else cut_long_output
    arrays = (np.array(dims, np.int64), np.array(sizes, np.int64))
    fields = np.ascontiguousarray(fields)
    if take(fields, chosen, data, *arrays, item_bytes, destination) != destination.size:
        raise ValueError(
            f"an output of {data.size} bytes with rows of {dims} cannot be cut to rows of {sizes} "
            f"for requests of {fields[:, ROWS].tolist()} rows"
        )
    return destination


def warm() -> None:
    """Compiles these kernels, or loads them from the cache."""
    sizes = np.array([[1]])
    padded, refused = round_up(sizes, np.array([True]), np.array([2]), True)
    assert (padded.tolist(), refused) == ([[2]], 0)
    for item_bytes in (1, 1 << 20):
        contents = np.ones(item_bytes, np.uint8)
        row = [0] * (INPUTS + 3)
        row[ROWS] = 1
        row[INPUTS:] = [contents.ctypes.data, item_bytes, 1]
        fields = np.array([row])
        batch = np.empty(2 * item_bytes, np.uint8)
        gather_padded(fields, INPUTS + 2, [(2,)], [item_bytes], [batch])
        for size in (1, 2):  # of the larger items, one brief and one long
            cut(fields, np.array([True]), batch, (2,), (size,), item_bytes)
        batch.setflags(write=False)  # read-only arrays are another type to Numba
        for size in (1, 2):
            cut(fields, np.array([True]), batch, (2,), (size,), item_bytes)
