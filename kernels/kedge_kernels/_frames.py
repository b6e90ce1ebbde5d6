"""States as bytes: one frame for every state of this package that is an array of float64.

A frame says what it is, how long it is, and has a checksum, so that a torn or foreign file is
refused. Whoever reads a frame checks the numbers in it before a kernel uses them as positions.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_HEAD = struct.Struct("<4s16sII")
_MAGIC = b"KDS1"


def pack(name: str, numbers: Sequence[float] | NDArray[Any]) -> bytes:
    """A frame of at most 2**32 - 1 numbers under an ASCII name of at most 16 characters; little
    endian on every machine.
    """
    payload = np.ascontiguousarray(numbers, dtype="<f8").tobytes()
    head = _HEAD.pack(_MAGIC, name.encode("ascii"), len(payload) // 8, zlib.crc32(payload))
    return head + payload


def unpack(name: str, data: bytes, numbers: int | None = None) -> Floats:
    """The numbers of a frame with this name, as a new array; exactly `numbers` if it is given.

    Raises ValueError if `data` is not one whole such frame.
    """
    if len(data) < _HEAD.size:
        raise ValueError(f"state of {name}: expected at least {_HEAD.size} bytes, got {len(data)}")
    magic, found, count, checksum = _HEAD.unpack_from(data)
    kind = found.rstrip(b"\0")
    if magic != _MAGIC or kind != name.encode("ascii"):
        raise ValueError(f"state of {name}: expected a frame of it, got {magic!r} {kind!r}")
    payload = data[_HEAD.size :]
    if len(payload) != 8 * count:
        raise ValueError(f"state of {name}: expected {8 * count} bytes, got {len(payload)}")
    if zlib.crc32(payload) != checksum:
        raise ValueError(f"state of {name}: expected checksum {checksum}, got another")
    if numbers is not None and count != numbers:
        raise ValueError(f"state of {name}: expected {numbers} numbers, got {count}")
    return np.frombuffer(payload, dtype="<f8").astype(np.float64)
