"""Arrays as bytes and back: what sketches are when they travel or lie on a disk.

    8 bytes  magic, which names kind and version     16 bytes  key of the reference
    1 byte   number of arrays; each: 1 byte type, 1 byte rank, rank x 8 bytes length, contents
    8 bytes  the first of the SHA-256 of all of it

Little-endian throughout. Reading trusts nothing: it never makes more than the bytes hold.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

REFERENCE = b"KDGREF\x00\x01"
SKETCH = b"KDGSKT\x00\x01"
CATEGORIES = b"KDGCAT\x00\x01"
KEY_BYTES = 16
DIGEST_BYTES = 8
RANK_MAX = 2
DTYPES = (np.dtype("<f4"), np.dtype("<f8"), np.dtype("<i8"))


def pack(kind: bytes, key: bytes, arrays: Sequence[NDArray[Any]]) -> bytes:
    """kind: one of the magics above; key: 16 bytes; arrays of the DTYPES with 1 or 2 dimensions."""
    assert len(key) == KEY_BYTES
    parts = [kind, key, bytes([len(arrays)])]
    for array in arrays:
        code = next(code for code, dtype in enumerate(DTYPES) if dtype == array.dtype)
        parts.append(struct.pack(f"<BB{array.ndim}Q", code, array.ndim, *array.shape))
        parts.append(np.ascontiguousarray(array, DTYPES[code]).tobytes())
    return sealed(b"".join(parts))


def sealed(body: bytes) -> bytes:
    """The bytes with their digest behind them."""
    return body + hashlib.sha256(body).digest()[:DIGEST_BYTES]


def unpack(kind: bytes, data: bytes, arrays: int) -> tuple[bytes, list[NDArray[Any]]]:
    """The key and the arrays, writable and in the machine's byte order.

    Raises ValueError unless `data` is what `pack` wrote, with this kind and so many arrays.
    """
    name = kind[:6].decode()
    if data[: len(kind)] != kind:
        raise ValueError(f"{name}: expected bytes that begin with {kind!r}, got {data[:8]!r}")
    body, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    start = len(kind) + KEY_BYTES + 1
    if len(body) < start or sealed(body) != body + digest:
        raise ValueError(f"{name}: the {len(data)} bytes are damaged or cut off")
    key, count = body[len(kind) : start - 1], body[start - 1]
    if count != arrays:
        raise ValueError(f"{name}: expected {arrays} arrays, got {count}")
    found = []
    for _ in range(count):
        array, start = _read_array(name, body, start)
        found.append(array)
    if start != len(body):
        raise ValueError(f"{name}: {len(body) - start} bytes too many")
    return key, found


def _read_array(name: str, body: bytes, start: int) -> tuple[NDArray[Any], int]:
    code, rank = body[start : start + 2] if len(body) - start >= 2 else (len(DTYPES), 0)
    if code >= len(DTYPES) or not 1 <= rank <= RANK_MAX or len(body) - start < 2 + 8 * rank:
        raise ValueError(f"{name}: an array has no readable head")
    shape = struct.unpack_from(f"<{rank}Q", body, start + 2)
    start += 2 + 8 * rank
    values = int(np.prod([int(length) for length in shape], dtype=object))
    stop = start + values * DTYPES[code].itemsize
    # A length of 0 beside a huge one fits in no bytes, but in no array either.
    if stop > len(body) or max(shape) > len(body):
        raise ValueError(f"{name}: an array of shape {shape} does not fit in {len(body)} bytes")
    array = np.frombuffer(body[start:stop], DTYPES[code]).reshape(shape)
    return array.astype(DTYPES[code].newbyteorder("="), order="C"), stop
