"""Versions in requests: Triton's rules and texts (protocol 2.2)."""

from __future__ import annotations

import pytest

from kedge.core.addressing import find_version, parse_version
from kedge.core.errors import InvalidRequest, UnknownModel
from kedge.core.values import Catalog
from support.fakes import DoublingExecutor, served

CATALOG = Catalog(
    {
        "double": {v: served(DoublingExecutor(), version=v) for v in (2, 10)},
        "unloaded": {},
    }
)


def test_no_version_means_the_newest_by_number() -> None:
    assert find_version(CATALOG, "double", "").ref.version == 10


def test_a_version_is_found_by_its_number() -> None:
    assert find_version(CATALOG, "double", "2").ref.version == 2
    assert find_version(CATALOG, "double", "002").ref.version == 2


@pytest.mark.parametrize(
    ("name", "version", "text"),
    [
        ("nobody", "", "Request for unknown model: 'nobody' is not found"),
        ("nobody", "1", "Request for unknown model: 'nobody' is not found"),
        ("", "", "Request for unknown model: '' is not found"),
        ("double", "9", "Request for unknown model: 'double' version 9 is not found"),
        ("double", "0", "Request for unknown model: 'double' version 0 is not found"),
        ("unloaded", "", "Request for unknown model: 'unloaded' has no available versions"),
        ("unloaded", "1", "Request for unknown model: 'unloaded' version 1 is not found"),
    ],
)
def test_what_is_not_served_is_not_found(name: str, version: str, text: str) -> None:
    with pytest.raises(UnknownModel) as raised:
        find_version(CATALOG, name, version)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    "text", ["x", "1.0", "1x", " 1", "1\n", "²", "0x1", "9223372036854775808", "9" * 5000]
)
def test_a_version_that_is_no_int64_is_invalid_whatever_the_model(text: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        find_version(CATALOG, "nobody", text)
    start = f"failed to get model version from specified version string '{text}'"
    assert str(raised.value).startswith(start)


def test_a_negative_version_is_invalid() -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_version("-1")
    assert str(raised.value) == (
        "invalid model version specified '-1' , version should be an integral value > 0"
    )


def test_the_largest_int64_is_a_version() -> None:
    assert parse_version("9223372036854775807") == 2**63 - 1
