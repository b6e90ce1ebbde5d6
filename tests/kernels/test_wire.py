"""Varints and fields against protobuf's own encoder."""

from __future__ import annotations

import pytest
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]

from kedge_kernels import wire
from kedge_kernels.memory import address_of, unwritten_bytes

EDGES = [0, 1, *(edge for bits in range(7, 63, 7) for edge in (2**bits - 1, 2**bits)), 2**63 - 1]


@pytest.mark.parametrize("value", EDGES)
def test_varints_are_read_and_written_as_protobuf_writes_them(value: int) -> None:
    expected = _VarintBytes(value)
    start = address_of(expected)
    assert wire.read_varint(start, start + len(expected)) == (value, start + len(expected))
    assert wire.varint(value) == expected
    assert wire.varint_bytes(value) == len(expected)
    written = unwritten_bytes(16)
    end = wire.write_varint(value, address_of(written))
    assert written[: end - address_of(written)] == expected


@pytest.mark.parametrize("value", EDGES)
def test_a_truncated_varint_is_malformed(value: int) -> None:
    encoded = _VarintBytes(value)
    start = address_of(encoded)
    for size in range(len(encoded)):
        assert wire.read_varint(start, start + size) == (0, start + size + 1)


@pytest.mark.parametrize(
    "encoded", [b"\xff" * 9 + b"\x01", b"\x80\x00", b"\xff\x80\x00", b"\x80" * 20]
)
def test_negative_and_overlong_varints_count_as_malformed(encoded: bytes) -> None:
    start = address_of(encoded)
    end = start + len(encoded)
    assert wire.read_varint(start, end) == (0, end + 1)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000])
def test_a_field_must_end_within_its_message(size: int) -> None:
    field = wire.bytes_field(1, bytes(size))
    start = address_of(field)
    end = start + len(field)
    assert wire.read_field(start, end) == (end - size, end)
    assert wire.read_field(start, end - 1) == (end, end)
    assert wire.field_bytes(size) == len(field)
    header = unwritten_bytes(8)
    contents = wire.write_header(wire.tag_of(1), size, address_of(header))
    assert header[: contents - address_of(header)] == field[: len(field) - size]


def test_an_absent_field_is_empty_and_what_follows_malformed_data_is_absent() -> None:
    field = wire.text_field(2, "x")
    start = address_of(field)
    end = start + len(field)
    assert wire.read_optional(wire.tag_of(2), start, end) == (end - 1, end)
    assert wire.read_optional(wire.tag_of(1), start, end) == (start, start)
    assert wire.read_optional(wire.tag_of(2), end, end) == (end, end)
    assert wire.read_optional(wire.tag_of(2), end + 1, end) == (end + 1, end + 1)
    assert wire.text_field(2, "") == b""
