from __future__ import annotations

import json

import yaml

from cli.conftest import Kedge
from kedge.config.endpoint import json_schema


def test_the_table_has_every_key_in_one_line_with_its_default(kedge: Kedge) -> None:
    lines = [line.split() for line in kedge("explain", "config").stdout.splitlines()]
    assert lines[0] == ["key", "type", "default", "meaning"]
    rows = {line[0]: line[1:3] for line in lines[1:] if line}
    assert rows["serving.queue.max_queued_bytes"] == ["size", "256MiB"]
    assert rows["apiVersion"] == ["kedge/v1", "required"]
    assert rows["inputs[].datatype"] == ["string", "required"]


def test_the_keys_are_data_too(kedge: Kedge) -> None:
    keys = json.loads(kedge("explain", "config", "-o", "json").stdout)
    assert {"key", "type", "default", "required", "meaning"} == set(keys[0])
    assert yaml.safe_load(kedge("explain", "config", "-o", "yaml").stdout) == keys


def test_the_schema_is_the_published_one(kedge: Kedge) -> None:
    assert json.loads(kedge("explain", "config", "--schema").stdout) == json_schema()
