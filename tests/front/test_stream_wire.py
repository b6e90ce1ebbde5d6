"""The bytes of a stream against protobuf's own messages."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from kedge.front.stream_wire import answer_message, error_message, request_id
from support.requests import infer_request

requests = st.builds(
    pb.ModelInferRequest,
    model_name=st.text(max_size=200),
    model_version=st.text(max_size=3),
    id=st.text(max_size=300),
    raw_input_contents=st.lists(st.binary(max_size=300), max_size=3),
)
FIELDS = st.sampled_from(
    [
        b"\x1a\x01a",  # id
        b"\x1a\x02b",  # id, one byte short
        b"\x1a\x80\x00",  # id of length 0, written in two bytes
        b"\x9a\x80\x00\x01c",  # id with a tag written in three bytes
        b"\x1a\x01\xff",  # id that is no UTF-8
        b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # id of 2**64 - 1 bytes
        b"\x1d\x01\x02\x03\x04",  # field 3 as fixed32
        b"\x19\x01\x02\x03\x04\x05\x06\x07\x08",  # as fixed64
        b"\x18\x07",  # as a varint
        b"\x0a\x05\x1a\x03xyz",  # model_name that looks like an id
        b"\x80\x01\x01",  # an unknown field
    ]
)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(requests)
def test_the_id_of_a_request_is_protobufs(request: pb.ModelInferRequest) -> None:
    assert request_id(request.SerializeToString()).decode() == request.id


def test_the_id_is_found_behind_every_other_field() -> None:
    request = infer_request(outputs=["y"], parameters={"a": 1, "b": "c"}, request_id="me")
    head = infer_request(outputs=["y"], parameters={"a": 1}).SerializeToString()
    assert request_id(request.SerializeToString()) == b"me"
    assert request_id(head + b"\x1a\x02me") == b"me"


@given(st.lists(FIELDS | st.binary(max_size=12), max_size=8).map(b"".join))
@example(b"\x1a")
@example(b"\x1a\x80")
@example(b"\x80" * 20)
@example(b"\x00\x00")
def test_of_any_bytes_the_id_is_protobufs_or_at_least_readable(data: bytes) -> None:
    found = request_id(data)
    assert is_utf8(found)
    try:
        expected = pb.ModelInferRequest.FromString(data)
    except DecodeError:
        return
    groups = any(byte & 7 in (3, 4) for byte in data)
    assert found.decode() == expected.id or (groups and found == b"")


@given(
    id=st.text(max_size=200),
    raw=st.lists(st.binary(max_size=300), max_size=3),
    parameters=st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=2),
)
def test_an_answer_of_a_stream_is_the_unary_one_with_one_parameter_more(
    id: str, raw: list[bytes], parameters: dict[str, int]
) -> None:
    unary = pb.ModelInferResponse(model_name="m", id=id, raw_output_contents=raw)
    for key, value in parameters.items():
        unary.parameters[key].int64_param = value
    message = pb.ModelStreamInferResponse.FromString(answer_message(unary.SerializeToString()))
    unary.parameters["triton_final_response"].bool_param = True
    assert message == pb.ModelStreamInferResponse(infer_response=unary)


@given(text=st.text(max_size=300), id=st.text(max_size=300))
def test_an_error_of_a_stream_is_its_text_and_the_id(text: str, id: str) -> None:
    message = pb.ModelStreamInferResponse.FromString(error_message(text, id.encode()))
    expected = pb.ModelStreamInferResponse(error_message=text, infer_response={"id": id})
    assert message == expected
    assert message.HasField("infer_response")
