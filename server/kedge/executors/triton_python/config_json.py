"""A ModelConfig as the JSON that Triton hands to a model: `args["model_config"]`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kedge import proto


def config_json(config: proto.ModelConfig) -> str:
    """All fields by their names in the .proto, defaults included; enums by name.

    Numbers of 64 bits are numbers, as in Triton; protobuf's own JSON makes strings of them.
    """
    return json.dumps(_object(config))


def _object(message: Any) -> dict[str, Any]:
    return {
        field.name: _value(getattr(message, field.name), field)
        for field in message.DESCRIPTOR.fields
        # A message or a choice that is not set has no default to show.
        if not field.has_presence or message.HasField(field.name)
    }


def _value(value: Any, field: Any) -> Any:
    if isinstance(value, Mapping):
        content = field.message_type.fields_by_name["value"]
        return {str(key): _value(value[key], content) for key in value}
    if hasattr(value, "DESCRIPTOR"):
        return _object(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_value(item, field) for item in value]
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    return value
