"""The protobuf wire format: varints and length-delimited fields, read and written in place.

Only what the codec needs, and stricter than protobuf: what is doubtful (overlong, negative or
truncated numbers) counts as malformed. A reader that meets something malformed answers the cursor
`end + 1`; every later reader sees nothing left there and hands it on, so one comparison with `end`
at the end of a message is enough.
"""

from __future__ import annotations

from kedge_kernels._jit import kernel
from kedge_kernels.memory import load_byte, store_byte

LENGTH_DELIMITED = 2


@kernel
def read_varint(cursor: int, end: int) -> tuple[int, int]:
    """(value, next cursor) of the varint at `cursor`: 1 to 9 bytes, so value is in 0..2**63 - 1."""
    value = 0
    shift = 0
    while cursor < end and shift < 63:
        byte = load_byte(cursor)
        cursor += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift > 0:  # the same number has a shorter form
                return 0, end + 1
            return value, cursor
        shift += 7
    return 0, end + 1


@kernel
def next_is(tag: int, cursor: int, end: int) -> bool:
    """Whether the field at `cursor` has this one-byte tag."""
    return cursor < end and load_byte(cursor) == tag


@kernel
def read_field(cursor: int, end: int) -> tuple[int, int]:
    """(start, stop) of the contents of the length-delimited field with a one-byte tag at `cursor`.
    Malformed: both are end + 1.
    """
    size, start = read_varint(cursor + 1, end)
    if size > end - start:  # also where `start` is end + 1
        return end + 1, end + 1
    return start, start + size


@kernel
def read_optional(tag: int, cursor: int, end: int) -> tuple[int, int]:
    """As `read_field`, if the field at `cursor` has this tag; else both are `cursor`: in proto3 an
    absent string is an empty one.
    """
    if next_is(tag, cursor, end):
        return read_field(cursor, end)
    return cursor, cursor


@kernel
def varint_bytes(value: int) -> int:
    """Bytes of the varint of `value` >= 0."""
    size = 1
    while value >= 0x80:
        value >>= 7
        size += 1
    return size


@kernel
def field_bytes(contents_bytes: int) -> int:
    """Bytes of a length-delimited field with a one-byte tag and so many bytes of contents."""
    return 1 + varint_bytes(contents_bytes) + contents_bytes


@kernel
def write_varint(value: int, cursor: int) -> int:
    """Writes `value` >= 0 at `cursor`; answers where it ends."""
    while value >= 0x80:
        store_byte(cursor, value & 0x7F | 0x80)
        value >>= 7
        cursor += 1
    store_byte(cursor, value)
    return cursor + 1


@kernel
def write_header(tag: int, contents_bytes: int, cursor: int) -> int:
    """Writes tag and length of a field; answers where its contents begin."""
    store_byte(cursor, tag)
    return write_varint(contents_bytes, cursor + 1)


def tag_of(field: int) -> int:
    """The tag of a length-delimited field; one byte for field numbers below 16."""
    return field << 3 | LENGTH_DELIMITED


def varint(value: int) -> bytes:
    """The varint of `value` >= 0, for what is packed once and not per request."""
    septets = []
    while value >= 0x80:
        septets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*septets, value))


def bytes_field(field: int, contents: bytes) -> bytes:
    """A length-delimited field; number below 16."""
    return bytes((tag_of(field),)) + varint(len(contents)) + contents


def text_field(field: int, text: str) -> bytes:
    """A string field; b"" for "", which proto3 does not send."""
    return bytes_field(field, text.encode()) if text else b""
