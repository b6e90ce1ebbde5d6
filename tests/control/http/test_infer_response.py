"""Bodies of answers, read by tritonclient's HTTP client."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb
from tritonclient.http import InferResult
from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor

from kedge import proto
from kedge.control.http.infer_request import InferCall
from kedge.control.http.infer_response import InferAnswer, write_infer_response
from kedge.core.errors import InvalidRequest

ARRAYS: dict[str, Any] = {
    "floats": np.array([[0.1, -3.4e38, np.nan]], np.float32),
    "doubles": np.array([1e300, 5e-324], np.float64),
    "bytes": np.array([0, 255], np.uint8),
    "longs": np.array([-(2**63), 2**63 - 1], np.int64),
    "ulongs": np.array([2**64 - 1], np.uint64),
    "flags": np.array([[True], [False]]),
    "words": np.array([b"", "ü\n\0".encode()], np.object_),
    "none": np.empty((0, 4), np.float32),
}


def response(arrays: dict[str, Any], **fields: Any) -> proto.ModelInferResponse:
    message = pb.ModelInferResponse(model_name="m", model_version="2", **fields)
    for name, array in arrays.items():
        datatype = np_to_triton_dtype(array.dtype)
        message.outputs.add(name=name, datatype=datatype, shape=array.shape)
        is_text = datatype == "BYTES"
        raw = serialize_byte_tensor(array).item() if is_text else array.tobytes()
        message.raw_output_contents.append(raw)
    return proto.ModelInferResponse.FromString(message.SerializeToString())


def call(binary: dict[str, bool], *, default: bool = False) -> InferCall:
    return InferCall(proto.ModelInferRequest(), binary, default)


def as_triton_reads(answer: InferAnswer) -> InferResult:
    return InferResult.from_response_body(answer.body, header_length=answer.json_bytes)


@given(st.dictionaries(st.sampled_from(sorted(ARRAYS)), st.booleans()), st.booleans())
def test_tritonclient_reads_every_mixture_of_json_and_binary_data(
    binary: dict[str, bool], default: bool
) -> None:
    answer = write_infer_response(response(ARRAYS), call(binary, default=default))
    result = as_triton_reads(answer)
    for name, array in ARRAYS.items():
        received = result.as_numpy(name)
        if name == "words" and not binary.get(name, default):
            received = np.array([text.encode() for text in received], np.object_)
        np.testing.assert_array_equal(received, array)


def test_binary_data_lies_behind_the_json_in_the_order_of_the_outputs() -> None:
    arrays = {name: ARRAYS[name] for name in ("longs", "bytes", "ulongs")}
    answer = write_infer_response(response(arrays), call({"bytes": False}, default=True))
    assert answer.json_bytes is not None
    document = json.loads(answer.body[: answer.json_bytes])
    assert answer.body[answer.json_bytes :] == (
        ARRAYS["longs"].tobytes() + ARRAYS["ulongs"].tobytes()
    )
    assert [output.get("data") for output in document["outputs"]] == [None, [0, 255], None]
    assert document["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert "parameters" not in document["outputs"][1]


def test_without_binary_data_the_body_is_json_as_triton_writes_it() -> None:
    message = response({"y": np.array([[1, 2]], np.int32)}, id="q")
    assert write_infer_response(message, call({})) == InferAnswer(
        b'{"id":"q","model_name":"m","model_version":"2","outputs":'
        b'[{"name":"y","datatype":"INT32","shape":[1,2],"data":[1,2]}]}',
        None,
    )


def test_an_answer_without_id_and_parameters_has_neither() -> None:
    document = json.loads(write_infer_response(response({}), call({})).body)
    assert document == {"model_name": "m", "model_version": "2", "outputs": []}


def test_parameters_of_answers_keep_their_types() -> None:
    message = response({"y": np.array([1], np.int32)})
    message.parameters["sequence_end"].bool_param = False
    message.outputs[0].parameters["scale"].double_param = 0.5
    document = json.loads(write_infer_response(message, call({})).body)
    assert document["parameters"] == {"sequence_end": False}
    assert document["outputs"][0]["parameters"] == {"scale": 0.5}


def test_half_precision_is_answered_as_binary_data_only() -> None:
    halves = {"y": np.array([1.5], np.float16)}
    with pytest.raises(InvalidRequest, match=r"output 'y': FP16 data via JSON is not supported"):
        write_infer_response(response(halves), call({}))
    result = as_triton_reads(write_infer_response(response(halves), call({"y": True})))
    assert result.as_numpy("y").tolist() == [1.5]
