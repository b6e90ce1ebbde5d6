from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from config.conftest import ENDPOINT
from kedge.config.check import check, section_at
from kedge.config.document import parse_document
from kedge.config.endpoint import EndpointFile, json_schema
from kedge.config.explain import endpoint_keys
from kedge.core.settings import BatchLimits, QueueLimits


def fields(section: Any) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield name
        annotation = field.annotation
        while not isinstance(annotation, type) and hasattr(annotation, "__args__"):
            annotation = annotation.__args__[-1]
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from fields(annotation)


def test_every_key_of_the_format_is_explained() -> None:
    keys = endpoint_keys()
    assert [key.key.rpartition(".")[2] for key in keys] == list(fields(EndpointFile))
    assert all(key.meaning for key in keys)


def test_defaults_are_those_of_the_core_and_can_be_typed_as_shown() -> None:
    shown = {key.key: key.default for key in endpoint_keys() if key.default}
    assert shown["serving.batching.max_batch_size"] == str(BatchLimits().rows_max)
    assert shown["serving.queue.max_queued_requests"] == str(QueueLimits().requests_max)
    document = yaml.safe_load(ENDPOINT[: ENDPOINT.index("serving:")])
    implicit = check(parse_document(yaml.safe_dump(document).encode(), "e.yaml"))
    for key, default in shown.items():
        *sections, name = key.replace("versions.N", "versions.1").split(".")
        section = document
        for step in sections:
            section = section.setdefault(step, {})
        section[name] = yaml.safe_load(default)
    explicit = check(parse_document(yaml.safe_dump(document).encode(), "e.yaml"))
    assert explicit == implicit


def test_what_has_no_default_is_required_or_a_section() -> None:
    for key in endpoint_keys():
        assert key.default or key.required or key.type == "section", key.key


def test_the_published_schema_refuses_unknown_keys_everywhere() -> None:
    schema = json_schema()
    sections = [schema, *schema["$defs"].values()]
    assert len(sections) == 6
    assert all(section["additionalProperties"] is False for section in sections)


def test_sections_are_found_by_location() -> None:
    assert section_at(()) is EndpointFile
    assert section_at(("inputs", 3)).__name__ == "Tensor"
    assert section_at(("versions", "7")).__name__ == "ModelVersion"
    assert section_at(("serving", "queue")).__name__ == "Queue"
