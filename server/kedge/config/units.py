"""Durations and byte sizes as people write them (`2ms`, `64MiB`) and as the core counts them."""

from __future__ import annotations

import re
from decimal import Decimal

DURATION_UNITS_US = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
SIZE_UNITS_BYTES = {
    "B": 1,
    "kB": 1_000,
    "KiB": 1024,
    "MB": 1_000_000,
    "MiB": 1024**2,
    "GB": 1_000_000_000,
    "GiB": 1024**3,
}
# Protobuf carries both as int64, and so does every kernel.
VALUE_MAX = 2**63 - 1


def _pattern(units: dict[str, int]) -> str:
    return rf"^[0-9]{{1,15}}(\.[0-9]{{1,9}})?({'|'.join(units)})$"


DURATION_PATTERN = _pattern(DURATION_UNITS_US)
SIZE_PATTERN = _pattern(SIZE_UNITS_BYTES)


def parse_duration_us(text: object) -> int:
    """`2ms` -> 2000. Raises ValueError with the accepted form; a bare number has no unit."""
    return _parse(text, DURATION_PATTERN, DURATION_UNITS_US, "a duration such as 2ms")


def parse_size_bytes(text: object) -> int:
    """`64MiB` -> 67108864. Raises ValueError with the accepted form; a bare number has no unit."""
    return _parse(text, SIZE_PATTERN, SIZE_UNITS_BYTES, "a size in bytes such as 64MiB")


def _parse(text: object, pattern: str, units: dict[str, int], expected: str) -> int:
    match = re.fullmatch(pattern, text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"expected {expected} (units {', '.join(units)}), got {text!r}")
    unit = match[2]
    value = Decimal(match[0].removesuffix(unit)) * units[unit]
    if value != int(value) or value > VALUE_MAX:
        raise ValueError(f"{text} is no whole number of {next(iter(units))} below 2^63")
    return int(value)


def format_duration(duration_us: int) -> str:
    """The shortest text that `parse_duration_us` reads back as `duration_us`; 0 is `0ms`."""
    return _format(duration_us, ("d", "h", "m", "s", "ms", "us"), DURATION_UNITS_US, zero="0ms")


def format_size(size_bytes: int) -> str:
    """`size_bytes` in the largest binary unit that divides it, readable by `parse_size_bytes`."""
    return _format(size_bytes, ("GiB", "MiB", "KiB", "B"), SIZE_UNITS_BYTES, zero="0B")


def _format(value: int, order: tuple[str, ...], units: dict[str, int], zero: str) -> str:
    if value == 0:
        return zero
    unit = next(unit for unit in order if value % units[unit] == 0)
    return f"{value // units[unit]}{unit}"
