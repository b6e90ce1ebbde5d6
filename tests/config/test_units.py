from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.config.units import (
    format_duration,
    format_size,
    parse_duration_us,
    parse_size_bytes,
)


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("0ms", 0),
        ("7us", 7),
        ("2ms", 2_000),
        ("1.5ms", 1_500),
        ("0.000001s", 1),
        ("3m", 180_000_000),
        ("24h", 86_400_000_000),
        ("30d", 30 * 86_400_000_000),
    ],
)
def test_a_duration_is_read_in_microseconds(text: str, us: int) -> None:
    assert parse_duration_us(text) == us


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("64MiB", 64 * 2**20), ("1.5KiB", 1536), ("1kB", 1000), ("2GB", 2_000_000_000)],
)
def test_a_size_is_read_in_bytes(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size


@pytest.mark.parametrize(
    "value", ["2", "", "ms", "-2ms", "2 ms", "2MS", "2min", "1e3ms", "2ms\n", "٢ms", 2, 0, True]
)
def test_a_number_without_a_known_unit_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match=r"expected a duration such as 2ms"):
        parse_duration_us(value)


def test_half_a_microsecond_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.5us is no whole number of us"):
        parse_duration_us("0.5us")


def test_durations_end_at_int64() -> None:
    assert parse_duration_us("106751991d") == 106_751_991 * 86_400_000_000
    with pytest.raises(ValueError, match=r"below 2\^63"):
        parse_duration_us("106751992d")


@given(st.integers(0, 10**15 - 1))
def test_what_is_written_is_read_back(value: int) -> None:
    assert parse_duration_us(format_duration(value)) == value
    assert parse_size_bytes(format_size(value)) == value


def test_the_largest_unit_that_divides_is_written() -> None:
    assert format_duration(90_000_000) == "90s"
    assert format_size(3 * 2**20) == "3MiB"
