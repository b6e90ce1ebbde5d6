"""Protocol messages as JSON values, the way Triton writes them. Pure.

Not protobuf's own JSON: that one writes 64-bit integers as strings, and clients of this protocol
compute with shapes and counters.
"""

from __future__ import annotations

import base64
from collections.abc import MutableMapping, MutableSequence
from typing import Any

from google.protobuf.message import Message


def plain(message: Message) -> dict[str, object]:
    """All fields by their names in the .proto file. Scalars and lists stand there even when empty,
    submessages only when they are set; enums are names, bytes are base64.
    """
    return {
        field.name: _field(field, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


# Descriptors are Any: protobuf has two classes for them, one of which its type stubs hide.
def _field(field: Any, value: object) -> object:
    if isinstance(value, MutableMapping):
        value_field = field.message_type.fields_by_name["value"]
        return {str(key): _single(value_field, item) for key, item in value.items()}
    if isinstance(value, MutableSequence):
        return [_single(field, item) for item in value]
    return _single(field, value)


def _single(field: Any, value: object) -> object:
    if isinstance(value, Message):
        return plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value
