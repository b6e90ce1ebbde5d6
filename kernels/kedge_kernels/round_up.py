"""Sizes of tensors, rounded up to the buckets that a model is run with."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from kedge_kernels._jit import brief_kernel


@brief_kernel
def round_up_sizes(
    sizes: NDArray[Any],
    free: NDArray[Any],
    buckets: NDArray[Any],
    alike: bool,
    padded: NDArray[Any],
) -> int:
    """Fills `padded`, int64[n, d], with `sizes`, int64[n, d], of which those in columns c with
    free[c] become the smallest one of `buckets`, ascending, that is not smaller.

    Answers how many rows have no such bucket or, with `alike`, differ in their free columns; all
    of `padded` is -1 in these.
    """
    refused = 0
    for request in range(sizes.shape[0]):
        length = -1
        fits = True
        for column in range(sizes.shape[1]):
            size = sizes[request, column]
            padded[request, column] = size
            if free[column]:
                bucket = 0
                while bucket < buckets.size and buckets[bucket] < size:
                    bucket += 1
                if bucket == buckets.size or (alike and length >= 0 and size != length):
                    fits = False
                else:
                    padded[request, column] = buckets[bucket]
                length = size
        if not fits:
            padded[request, :] = -1
            refused += 1
    return refused
