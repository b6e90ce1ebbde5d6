"""The slow twin of `kedge_kernels.lengths`: NumPy arrays, one request after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def padded_size(size: int, buckets: Sequence[int]) -> int | None:
    return next((bucket for bucket in buckets if bucket >= size), None)


def round_up(
    sizes: Sequence[Sequence[int]], free: Sequence[bool], buckets: Sequence[int], alike: bool
) -> list[list[int] | None]:
    """Per request its padded sizes, None if it is refused."""
    answers: list[list[int] | None] = []
    for row in sizes:
        lengths = [size for size, is_free in zip(row, free, strict=True) if is_free]
        padded = [
            padded_size(size, buckets) if is_free else size
            for size, is_free in zip(row, free, strict=True)
        ]
        unequal = alike and len(set(lengths)) > 1
        answers.append(None if unequal or None in padded else padded)  # type: ignore[arg-type]
    return answers


def pad(contents: Sequence[Bytes], dims: tuple[int, ...]) -> Bytes:
    """contents: uint8[rows, ..., item] of each request; the batch, its rows padded to `dims`."""
    return np.concatenate(
        [
            np.pad(
                own,
                [
                    (0, 0),
                    *((0, dim - size) for dim, size in zip(dims, own.shape[1:-1], strict=True)),
                    (0, 0),
                ],
            )
            for own in contents
        ]
    )


def cut(data: Bytes, rows: Sequence[int], chosen: Sequence[bool], sizes: tuple[int, ...]) -> Bytes:
    """data: uint8[all rows, ..., item]; the chosen requests' rows, each cut to `sizes`."""
    ends = np.cumsum(rows)
    taken = [
        data[end - count : end][(slice(None), *(slice(size) for size in sizes))]
        for end, count, wanted in zip(ends, rows, chosen, strict=True)
        if wanted
    ]
    item = data.shape[-1]
    return np.concatenate(taken) if taken else np.empty((0, *sizes, item), np.uint8)
