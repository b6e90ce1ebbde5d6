"""KLL sketches of several columns as bytes, and the checks before DataSketches may read them.

    8 bytes  magic            4 bytes  columns        4 bytes  k
    each column: 4 bytes length, a serialized sketch
    8 bytes  the first of the SHA-256 of all of it

DataSketches 5.2 reads and writes outside its memory for bytes that are no sketch (a flipped byte
was a segmentation fault), so every count and length in them is proved here first.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from kedge_kernels.sketch_bytes import DIGEST_BYTES, sealed

MAGIC = b"KDGKLL\x00\x01"
HEAD = struct.Struct("<II")
# Of DataSketches' KLL: preamble, then n, the least k of all merged, levels, and a byte of nothing.
PREAMBLE = struct.Struct("<BBBBHBx")
COUNTS = struct.Struct("<QHBx")
FAMILY, LEAST_LEVEL = 15, 8
EMPTY, SINGLE = 1, 4
LEVELS_MAX = 60
K_MIN, K_MAX = 8, 65_535


def pack(k: int, parts: Sequence[bytes]) -> bytes:
    """k and the serialized sketch of each column."""
    sized = [struct.pack("<I", len(part)) + part for part in parts]
    return sealed(MAGIC + HEAD.pack(len(parts), k) + b"".join(sized))


def unpack(data: bytes) -> tuple[int, list[bytes]]:
    """What `pack` took; ValueError for anything else, and for parts that are no KLL sketch."""
    start = len(MAGIC) + HEAD.size
    body = data[:-DIGEST_BYTES]
    if data[: len(MAGIC)] != MAGIC or len(body) < start or sealed(body) != data:
        raise ValueError(
            f"quantile sketch: the {len(data)} bytes are not {MAGIC!r}, damaged or cut off"
        )
    features, k = HEAD.unpack_from(body, len(MAGIC))
    if not K_MIN <= k <= K_MAX or features < 1:
        raise ValueError(f"quantile sketch: {features} columns with k = {k} cannot be")
    parts: list[bytes] = []
    while len(parts) < features and start + 4 <= len(body):
        (size,) = struct.unpack_from("<I", body, start)
        parts.append(body[start + 4 : start + 4 + size])
        start += 4 + size
    if len(parts) != features or start != len(body):
        raise ValueError(f"quantile sketch: {len(body)} bytes do not hold {features} columns")
    for feature, part in enumerate(parts):
        if not is_kll(part, k):
            raise ValueError(f"quantile sketch: column {feature} is no KLL sketch with k = {k}")
    return k, parts


def is_kll(part: bytes, k: int) -> bool:
    """Whether these are the bytes of a kll_floats_sketch, in which nothing points outside."""
    if len(part) < PREAMBLE.size:
        return False
    ints, version, family, flags, own_k, least_level = PREAMBLE.unpack_from(part)
    if (family, own_k, least_level) != (FAMILY, k, LEAST_LEVEL):
        return False
    if flags & EMPTY:
        return (ints, version, len(part)) == (2, 1, PREAMBLE.size)
    if flags & SINGLE:
        return (ints, version, len(part)) == (2, 2, PREAMBLE.size + 4) and _are_numbers(part[-4:])
    return (ints, version) == (5, 1) and _has_levels(part, k)


def _has_levels(part: bytes, k: int) -> bool:
    """Whether the items of a sketch with more than one value are as many as its levels say, and
    stand for as many values as it counts.
    """
    start = PREAMBLE.size + COUNTS.size
    if len(part) < start:
        return False
    values, least_k, levels = COUNTS.unpack_from(part, PREAMBLE.size)
    if not (1 <= levels <= LEVELS_MAX and K_MIN <= least_k <= k) or len(part) < start + 4 * levels:
        return False
    ends = [*struct.unpack_from(f"<{levels}I", part, start), _capacity(k, levels)]
    sizes = [after - before for before, after in pairwise(ends)]
    start += 4 * levels
    return (
        min(sizes) >= 0
        and sum(size << level for level, size in enumerate(sizes)) == values
        and len(part) == start + 4 * (2 + sum(sizes))
        and _are_numbers(part[start:])
    )


def _are_numbers(data: bytes) -> bool:
    return not bool(np.isnan(np.frombuffer(data, "<f4")).any())


def _capacity(k: int, levels: int) -> int:
    """Items that a sketch with so many levels may hold: (2/3)^depth k each, at least 8."""
    return sum(max(LEAST_LEVEL, _level_capacity(k, depth)) for depth in range(levels))


def _level_capacity(k: int, depth: int) -> int:
    if depth > 30:
        return _level_capacity(_level_capacity(k, depth // 2), depth - depth // 2)
    return int((k << 1 << depth) // 3**depth + 1) >> 1
