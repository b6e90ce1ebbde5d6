"""The format as rows: every key with its type, default and meaning, read off the JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kedge.config.endpoint import json_schema


@dataclass(frozen=True, slots=True)
class Key:
    """One key. default: as YAML, "" if the key is required or a section."""

    key: str
    type: str
    default: str
    required: bool
    meaning: str


def endpoint_keys() -> list[Key]:
    """Every key of an endpoint file, in the order of the format."""
    schema = json_schema()
    return list(_keys(schema, schema, ""))


def _keys(section: dict[str, Any], schema: dict[str, Any], prefix: str) -> Iterator[Key]:
    for name, value in section["properties"].items():
        key = f"{prefix}{name}"
        yield Key(
            key=key,
            type=_type(value),
            default=_as_yaml(value["default"]) if "default" in value else "",
            required=name in section.get("required", []),
            meaning=value["description"],
        )
        suffix, reference = _below(value)
        if reference:
            below = schema["$defs"][reference.rpartition("/")[2]]
            yield from _keys(below, schema, f"{key}{suffix}.")


def _as_yaml(default: object) -> str:
    """Text without its quotes, unless nothing would be left."""
    return json.dumps(default).strip('"') or '""'


def _below(value: dict[str, Any]) -> tuple[str, str | None]:
    """How keys of the next level are written, and where their section lies in the schema."""
    if "items" in value:
        return "[]", value["items"].get("$ref")
    if "patternProperties" in value:
        (section,) = value["patternProperties"].values()
        return ".N", section["$ref"]
    return "", value.get("$ref")


def _type(value: dict[str, Any]) -> str:
    if "const" in value:
        return str(value["const"])
    if "$ref" in value:
        return "section"
    if "patternProperties" in value:
        return "sections by version"
    kind = str(value.get("format", value["type"]))
    if kind == "array":
        items = value["items"]
        return "list of sections" if "$ref" in items else f"list of {items['type']}s"
    return kind
