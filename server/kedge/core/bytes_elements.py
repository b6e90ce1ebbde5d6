"""Raw layout of BYTES tensors: each element behind its length, 4 bytes, little-endian."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from kedge.core.errors import InvalidRequest

LENGTH_BYTES = 4


def pack_bytes(elements: Sequence[bytes]) -> bytes:
    """BYTES elements in raw layout."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def unpack_bytes(raw: bytes | memoryview, tensor: str) -> list[bytes]:
    """The elements of a raw BYTES tensor. Raises InvalidRequest if a length runs past the end."""
    elements: list[bytes] = []
    position = 0
    while position < len(raw):
        start = position + LENGTH_BYTES
        if start > len(raw):
            raise InvalidRequest(
                f"{tensor}: element {len(elements)} is cut off: {len(raw) - position} of the "
                f"{LENGTH_BYTES} bytes of its length are there"
            )
        (length,) = struct.unpack_from("<I", raw, position)
        position = start + length
        if position > len(raw):
            raise InvalidRequest(
                f"{tensor}: element {len(elements)} is cut off: expected {length} bytes, got "
                f"{len(raw) - start}"
            )
        elements.append(bytes(raw[start:position]))
    return elements
