"""Bodies of infer requests, written by tritonclient's HTTP client and by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from kedge.control.http.infer_request import InferCall, read_infer_request
from kedge.core.errors import InvalidRequest

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
WORDS = np.array([[b"a", "ü".encode()]], dtype=np.object_)


def infer_input(name: str, array: Any, datatype: str, *, binary: bool) -> InferInput:
    tensor = InferInput(name, list(array.shape), datatype)
    return tensor.set_data_from_numpy(array, binary_data=binary)


def read(body: bytes | dict[str, object], json_bytes: int | None = None) -> InferCall:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_infer_request("m", "3", text, json_bytes)


def read_triton(inputs: Sequence[InferInput], **options: Any) -> tuple[Any, InferCall]:
    """What tritonclient sends, as its own message class, and how the answer is wanted."""
    body, json_bytes = InferenceServerClient.generate_request_body(inputs, **options)
    call = read(body, json_bytes)
    return pb.ModelInferRequest.FromString(call.message.SerializeToString()), call


def body_with(**changes: object) -> dict[str, object]:
    tensor = {"name": "x", "datatype": "INT32", "shape": [1], "data": [1]}
    tensor = {key: value for key, value in (tensor | changes).items() if value is not ...}
    return {"inputs": [tensor]}


def refusal(body: bytes | dict[str, object], json_bytes: int | None = None) -> str:
    with pytest.raises(InvalidRequest) as refused:
        read(body, json_bytes)
    return str(refused.value)


@pytest.mark.parametrize("rows_binary", [True, False])
@pytest.mark.parametrize("words_binary", [True, False])
def test_json_and_binary_tensors_become_the_same_raw_contents(
    rows_binary: bool, words_binary: bool
) -> None:
    message, _ = read_triton(
        [
            infer_input("rows", ROWS, "FP32", binary=rows_binary),
            infer_input("words", WORDS, "BYTES", binary=words_binary),
        ],
        request_id="q",
    )
    assert (message.model_name, message.model_version, message.id) == ("m", "3", "q")
    assert [tensor.name for tensor in message.inputs] == ["rows", "words"]
    assert [list(tensor.shape) for tensor in message.inputs] == [[2, 3], [1, 2]]
    assert [tensor.datatype for tensor in message.inputs] == ["FP32", "BYTES"]
    assert list(message.raw_input_contents) == [
        ROWS.tobytes(),
        b"\1\0\0\0a\2\0\0\0" + "ü".encode(),
    ]
    # Parameters would take the request off the gateway's fast path.
    assert not message.parameters
    assert not message.inputs[0].parameters


def test_without_outputs_tritonclient_gets_all_of_them_as_binary_data() -> None:
    message, call = read_triton([infer_input("rows", ROWS, "FP32", binary=True)])
    assert (dict(call.binary), call.binary_default) == ({}, True)
    assert not message.outputs


def test_each_output_says_how_its_data_is_wanted() -> None:
    message, call = read_triton(
        [infer_input("rows", ROWS, "FP32", binary=True)],
        outputs=[
            InferRequestedOutput("y", binary_data=True),
            InferRequestedOutput("z", binary_data=False, class_count=3),
        ],
    )
    assert call.binary == {"y": True, "z": False}
    assert [output.name for output in message.outputs] == ["y", "z"]
    assert not message.outputs[0].parameters
    assert message.outputs[1].parameters["classification"].int64_param == 3


def test_an_output_without_a_wish_follows_binary_data_output() -> None:
    request = {
        **body_with(),
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "y"}, {"name": "z", "parameters": {"binary_data": False}}],
    }
    assert read(request).binary == {"y": True, "z": False}


def test_parameters_keep_their_types() -> None:
    message, _ = read_triton(
        [infer_input("rows", ROWS, "FP32", binary=True)],
        timeout=1000,
        priority=2**64 - 1,
        parameters={"text": "ü", "share": 0.5, "flag": True, "below": -(2**63) + 1},
    )
    assert message.parameters["timeout"].int64_param == 1000
    assert message.parameters["priority"].uint64_param == 2**64 - 1
    assert message.parameters["text"].string_param == "ü"
    assert message.parameters["share"].double_param == 0.5
    assert message.parameters["flag"].bool_param is True
    assert message.parameters["below"].int64_param == -(2**63) + 1
    assert "binary_data_output" not in message.parameters


def test_an_input_in_shared_memory_has_no_contents() -> None:
    tensor = InferInput("x", [1], "INT32").set_shared_memory("region", 4)
    message, _ = read_triton([tensor, infer_input("rows", ROWS, "FP32", binary=True)])
    assert list(message.raw_input_contents) == [ROWS.tobytes()]
    assert message.inputs[0].parameters["shared_memory_region"].string_param == "region"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": ...}, "inputs[0]: 'name' is missing"),
        ({"name": 5}, "inputs[0]: 'name': expected a string, got a number"),
        ({"name": "\ud800"}, "expected Unicode text, got half a surrogate pair"),
        ({"datatype": ...}, "input 'x': 'datatype' is missing"),
        ({"datatype": "FLOAT"}, "invalid datatype 'FLOAT', expected one of BOOL, UINT8"),
        ({"shape": ...}, "input 'x': 'shape' is missing"),
        ({"shape": [-1]}, "expected 'shape' to be whole numbers from 0, got [-1]"),
        ({"shape": [1.0]}, "got [1.0]"),
        ({"shape": [True]}, "got [True]"),
        ({"shape": [2**63]}, f"got [{2**63}]"),
        ({"data": ...}, "expected 'data', or one of the parameters"),
        ({"parameters": []}, "'parameters': expected an object, got a list"),
        ({"parameters": {"a": None}}, "input 'x' parameter 'a': expected a string, number"),
        ({"parameters": {"\ud800": 1}}, "expected Unicode text, got half a surrogate pair"),
        ({"parameters": {"a": 2**64}}, "input 'x' parameter 'a': expected"),
        ({"parameters": {"binary_data_size": 4}}, "either 'data' or 'binary_data_size'"),
        ({"data": ..., "parameters": {"binary_data_size": 4}}, "0 bytes are left"),
        ({"data": ..., "parameters": {"binary_data_size": -1}}, "unexpected 'binary_data_size' -1"),
        ({"data": ..., "parameters": {"binary_data_size": True}}, "'binary_data_size' True"),
    ],
)
def test_a_wrong_input_is_named(changes: dict[str, object], expected: str) -> None:
    assert expected in refusal(body_with(**changes))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "no valid JSON"),
        (b"{nope", "no valid JSON"),
        (b"\xff", "no valid JSON"),
        (b"[]", "expected a JSON object as request, got a list"),
        (b"null", "got null"),
        (b"{}", "request: 'inputs' is missing"),
        (b'{"inputs":{}}', "'inputs': expected a list, got an object"),
        (b'{"inputs":[3]}', "inputs[0]: expected an object, got a number"),
        (b'{"inputs":[],"id":7}', "request: 'id': expected a string, got a number"),
        (b'{"inputs":[],"outputs":[{}]}', "outputs[0]: 'name' is missing"),
        (b'{"inputs":[],"parameters":{"binary_data_output":1}}', "expected true or false"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b'{"inputs":[],"id":' + b"9" * 5_000 + b"}", "no valid JSON"),
    ],
)
def test_what_is_no_request_is_refused_with_the_reason(body: bytes, expected: str) -> None:
    assert expected in refusal(body)


def test_the_length_of_the_json_must_lie_in_the_body() -> None:
    body = json.dumps(body_with()).encode()
    assert read(body, len(body)).message.inputs[0].name == "x"
    for length in (0, len(body) + 1):
        assert f"1 to the body's {len(body)} bytes, got {length}" in refusal(body, length)


def test_bytes_that_belong_to_no_input_are_refused() -> None:
    body = json.dumps(body_with()).encode()
    assert "unexpected additional input data for model 'm': 3 bytes" in refusal(
        body + b"abc", len(body)
    )


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
KEYS = st.sampled_from(["name", "datatype", "shape", "data", "parameters", "id", "inputs"])


@given(
    st.dictionaries(KEYS, JSON_VALUES)
    | st.builds(lambda item: {"inputs": [item]}, st.dictionaries(KEYS, JSON_VALUES))
    | st.builds(lambda key, value: body_with(**{key: value}), KEYS, JSON_VALUES)
)
def test_any_json_is_read_or_refused(body: dict[str, object]) -> None:
    try:
        call = read(body)
    except InvalidRequest:
        return
    pb.ModelInferRequest.FromString(call.message.SerializeToString())


@given(st.binary(max_size=200), st.none() | st.integers(0, 250))
def test_any_bytes_are_refused(body: bytes, json_bytes: int | None) -> None:
    assert refusal(body, json_bytes)
