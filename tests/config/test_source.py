from __future__ import annotations

import pytest

from config.conftest import ENDPOINT, Write
from kedge.config.problems import ConfigError
from kedge.config.source import EndpointSource
from kedge.core.errors import InvalidRequest
from kedge.core.sources import ModelSource


def test_a_source_reads_the_file_anew_each_time(write: Write) -> None:
    source: ModelSource = EndpointSource.open(write(ENDPOINT))
    before = source.manifests(None)
    assert source.manifests(None) == before
    write(ENDPOINT.replace("timeout: 50ms", "timeout: 60ms"))
    assert [manifest.queue.timeout_us for manifest in source.manifests(None)] == [60_000, 60_000]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (ENDPOINT, "fraud"),
        ("name: other\nbroken: true", "other"),
        ("name: [", "endpoint"),
        ("name: 3", "endpoint"),
        ("- name", "endpoint"),
        ("", "endpoint"),
    ],
)
def test_a_broken_file_has_its_own_name_or_the_files(write: Write, text: str, name: str) -> None:
    assert EndpointSource.open(write(text)).name == name


def test_a_broken_file_says_why_when_it_is_read(write: Write) -> None:
    source = EndpointSource.open(write("name: other"))
    with pytest.raises(ConfigError, match="apiVersion: is required"):
        source.manifests(None)


def test_a_file_that_got_another_name_is_another_endpoint(write: Write) -> None:
    source = EndpointSource.open(write(ENDPOINT))
    write(ENDPOINT.replace("name: fraud", "name: other"))
    with pytest.raises(ConfigError, match="the name changed from 'fraud'"):
        source.manifests(None)


def test_a_config_override_is_refused(write: Write) -> None:
    source = EndpointSource.open(write(ENDPOINT))
    with pytest.raises(InvalidRequest, match="an endpoint file takes no 'config' parameter"):
        source.manifests("{}")
