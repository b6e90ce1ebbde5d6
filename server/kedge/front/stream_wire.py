"""The bytes of `ModelStreamInfer`: a stream's messages are made of unary ones without parsing them.

Field numbers are those of proto/inference.proto; its messages are the oracle in the tests.
"""

from __future__ import annotations

# Wire types, and the tags of the fields that matter: field << 3 | wire type.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
REQUEST_ID = 3 << 3 | BYTES
RESPONSE_ID = 3 << 3 | BYTES
RESPONSE_PARAMETERS = 4 << 3 | BYTES
STREAM_ERROR_MESSAGE = 1 << 3 | BYTES
STREAM_INFER_RESPONSE = 2 << 3 | BYTES
MAP_KEY, MAP_VALUE = 1 << 3 | BYTES, 2 << 3 | BYTES
BOOL_PARAM = 1 << 3 | VARINT

VARINT_BYTES_MAX = 10


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(tag: int, content: bytes) -> bytes:
    return b"".join((_varint(tag), _varint(len(content)), content))


# One more entry of the map `parameters`. Appended to a serialized message it is part of it:
# protobuf takes the fields of a message in any order, and the last of two equal keys.
FINAL_RESPONSE = _field(
    RESPONSE_PARAMETERS,
    _field(MAP_KEY, b"triton_final_response") + _field(MAP_VALUE, bytes((BOOL_PARAM, 1))),
)


def answer_message(response: bytes) -> bytes:
    """ModelStreamInferResponse{infer_response: `response` and triton_final_response=true}."""
    head = _varint(STREAM_INFER_RESPONSE) + _varint(len(response) + len(FINAL_RESPONSE))
    return b"".join((head, response, FINAL_RESPONSE))


def error_message(text: str, request_id: bytes) -> bytes:
    """ModelStreamInferResponse{error_message: `text`, infer_response: only the id}."""
    response = _field(RESPONSE_ID, request_id) if request_id else b""
    return _field(STREAM_ERROR_MESSAGE, text.encode()) + _field(STREAM_INFER_RESPONSE, response)


def request_id(request: bytes) -> bytes:
    """Field `id` of a serialized ModelInferRequest, b"" if there is none; always valid UTF-8.

    Of bytes that are no such message, whatever stands where the id would, or b"": the answer that
    it goes into stays readable for the client.
    """
    found = b""
    offset, end = 0, len(request)
    try:
        while offset < end:
            tag, offset = _read_varint(request, offset)
            size, offset = _size_of(tag & 7, request, offset)
            if size > end - offset:
                return b""
            if tag == REQUEST_ID:
                found = request[offset : offset + size]
            offset += size
        found.decode()
    except (ValueError, IndexError):
        return b""
    return found


def _size_of(wire_type: int, data: bytes, offset: int) -> tuple[int, int]:
    """How many bytes of content follow, and from where. Raises ValueError for a wire type that no
    field of the request has.
    """
    if wire_type == BYTES:
        return _read_varint(data, offset)
    if wire_type == VARINT:
        return 0, _read_varint(data, offset)[1]
    if wire_type == FIXED64:
        return 8, offset
    if wire_type == FIXED32:
        return 4, offset
    raise ValueError(wire_type)


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Value and the offset behind it. Raises IndexError at the end of the data, ValueError for an
    endless one.
    """
    value = 0
    for index in range(VARINT_BYTES_MAX):
        byte = data[offset + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, offset + index + 1
    raise ValueError("a varint of more than ten bytes")
