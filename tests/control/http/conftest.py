"""One HTTP process and one gateway for the tests that only ask questions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.fake_gateway import FakeGateway, running_gateway
from support.http_process import HttpProcess, running_http


@pytest.fixture(scope="session")
def _served() -> Iterator[tuple[FakeGateway, HttpProcess]]:
    with (
        running_gateway() as (gateway, address),
        running_http(address, "--control-from-loopback-only") as http,
    ):
        yield gateway, http


@pytest.fixture
def gateway(_served: tuple[FakeGateway, HttpProcess]) -> Iterator[FakeGateway]:
    gateway = _served[0]
    yield gateway
    gateway.is_ready = True
    for event in (gateway.go, gateway.waiting, gateway.cancelled):
        event.clear()


@pytest.fixture
def http(_served: tuple[FakeGateway, HttpProcess]) -> HttpProcess:
    return _served[1]
