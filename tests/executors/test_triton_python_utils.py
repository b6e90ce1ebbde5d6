"""`triton_python_backend_utils`: tensors, types and the log, against NumPy, torch, tritonclient."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from kedge.core.errors import InvalidRequest
from kedge.executors.triton_python import utils as pb_utils
from kedge.executors.triton_python.refusals import REFUSED, NotInKedge

NUMPY_NAMES = {
    "TYPE_BOOL": np.bool_,
    "TYPE_UINT8": np.uint8,
    "TYPE_UINT16": np.uint16,
    "TYPE_UINT32": np.uint32,
    "TYPE_UINT64": np.uint64,
    "TYPE_INT8": np.int8,
    "TYPE_INT16": np.int16,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
    "TYPE_FP16": np.float16,
    "TYPE_FP32": np.float32,
    "TYPE_FP64": np.float64,
    "TYPE_STRING": np.object_,
}


@pytest.mark.parametrize("name", NUMPY_NAMES)
def test_types_have_triton_s_names_and_numbers(name: str) -> None:
    number = model_config_pb2.DataType.Value(name)
    wanted = NUMPY_NAMES[name]
    assert np.dtype(pb_utils.triton_string_to_numpy(name)) == wanted
    assert pb_utils.triton_to_numpy_type(number) == wanted
    assert pb_utils.numpy_to_triton_type(wanted) == number
    assert pb_utils.numpy_to_triton_type(np.dtype(wanted)) == number
    assert pb_utils.Tensor("t", np.zeros(2, wanted)).triton_dtype() == number


def test_types_that_numpy_lacks_are_no_keys() -> None:
    assert pb_utils.triton_string_to_numpy("TYPE_BOOL") is bool
    assert pb_utils.numpy_to_triton_type(np.bytes_) == 13
    with pytest.raises(KeyError):
        pb_utils.triton_string_to_numpy("TYPE_BF16")
    with pytest.raises(KeyError):
        pb_utils.numpy_to_triton_type(np.complex64)


@given(st.lists(st.binary(max_size=9), max_size=7))
def test_strings_are_serialized_as_the_client_does(elements: list[bytes]) -> None:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    raw = pb_utils.serialize_byte_tensor(array)
    expected = serialize_byte_tensor(array)
    assert raw == (expected.item() if expected.size else b"")
    again = pb_utils.deserialize_bytes_tensor(raw)
    assert again.tolist() == elements == deserialize_bytes_tensor(raw).tolist()


@given(st.binary(max_size=24))
def test_any_bytes_are_elements_or_refused(raw: bytes) -> None:
    try:
        array = pb_utils.deserialize_bytes_tensor(raw)
    except InvalidRequest:
        return
    assert pb_utils.serialize_byte_tensor(array) == raw


def test_what_is_no_bytes_becomes_its_text() -> None:
    mixed = np.array([b"a", "ä", 3, np.bytes_(b"z")], dtype=np.object_)
    raw = pb_utils.serialize_byte_tensor(mixed)
    assert deserialize_bytes_tensor(raw).tolist() == [b"a", "ä".encode(), b"3", b"z"]
    fixed = pb_utils.Tensor("t", np.array([b"ab", b"c"])).as_numpy()
    assert (fixed.dtype, fixed.tolist()) == (np.object_, [b"ab", b"c"])


def test_a_tensor_is_its_array_s_memory_for_everyone() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = pb_utils.Tensor("t", array)
    assert (tensor.name(), tensor.shape(), tensor.is_cpu()) == ("t", [2, 3], True)
    assert tensor.as_numpy() is array
    for seen in (
        torch.utils.dlpack.from_dlpack(tensor.to_dlpack()).numpy(),
        torch.from_dlpack(tensor).numpy(),
        np.from_dlpack(tensor),
        pb_utils.Tensor.from_dlpack("u", tensor).as_numpy(),
    ):
        assert np.shares_memory(seen, array)
        assert seen.tolist() == array.tolist()
    scalar = pb_utils.Tensor("s", np.array(3))
    assert scalar.shape() == []


def test_an_array_that_cannot_be_written_is_not_written_through_dlpack() -> None:
    array = np.frombuffer(np.float32(1).tobytes(), np.float32)
    seen = torch.from_dlpack(pb_utils.Tensor("t", array))
    seen += 1
    assert (seen.item(), array.item()) == (2, 1)


def test_bf16_goes_through_dlpack_only() -> None:
    value = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    tensor = pb_utils.Tensor.from_dlpack("t", value)
    assert torch.equal(torch.utils.dlpack.from_dlpack(tensor.to_dlpack()), value)
    with pytest.raises(pb_utils.TritonModelException, match="NumPy has no BF16; use to_dlpack"):
        tensor.as_numpy()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pb_utils.Tensor("t", np.zeros(1, "M8[s]")), "dtype <M8.s. is none"),
        (lambda: pb_utils.Tensor("t", np.array(["a"])), "use numpy.object_ for strings"),
        (lambda: pb_utils.Tensor("t", np.array([b"a"])).to_dlpack(), "BYTES have no DLPack form"),
        (lambda: pb_utils.Tensor.from_dlpack("t", torch.zeros(1, dtype=torch.cfloat)), "complex64"),
    ],
)
def test_what_no_tensor_can_be_is_told(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(pb_utils.TritonModelException, match=message):
        make()


def test_configurations_and_responses_are_found_by_name() -> None:
    config = {"input": [{"name": "a", "dims": [1]}], "output": [{"name": "b", "dims": [2]}]}
    assert pb_utils.get_input_config_by_name(config, "a") == {"name": "a", "dims": [1]}
    assert pb_utils.get_output_config_by_name(config, "b") == {"name": "b", "dims": [2]}
    assert pb_utils.get_input_config_by_name(config, "b") is None
    assert pb_utils.get_output_config_by_name({}, "a") is None
    assert not pb_utils.using_decoupled_model_transaction_policy(config)
    tensor = pb_utils.Tensor("y", np.zeros(1))
    response = pb_utils.InferenceResponse(output_tensors=[tensor])
    assert pb_utils.get_output_tensor_by_name(response, "y") is tensor
    assert pb_utils.get_output_tensor_by_name(response, "z") is None
    assert not response.has_error()
    assert pb_utils.InferenceResponse(error=pb_utils.TritonError("no")).has_error()


def test_errors_tell_their_message() -> None:
    error = pb_utils.TritonError("why", pb_utils.TritonError.NOT_FOUND)
    assert (error.message(), str(error), error.code()) == ("why", "why", 2)
    assert pb_utils.TritonModelException("why").message() == "why"


@pytest.mark.parametrize("name", REFUSED)
def test_each_refused_name_says_that_it_is_not_here(name: str) -> None:
    with pytest.raises(NotInKedge, match=f"^{name}: .*not in this version of Kedge"):
        getattr(pb_utils, name)
    assert not hasattr(pb_utils, "no_such_name_anywhere")


def test_the_log_has_the_levels_of_triton(caplog: pytest.LogCaptureFixture) -> None:
    logger = pb_utils.Logger
    with caplog.at_level(logging.DEBUG, "kedge.model"):
        logger.log_verbose("100 %s")
        logger.log_info("i")
        logger.log_warn("w")
        logger.log_error("e")
        logger.log("plain")
        logger.log("again", logger.ERROR)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", "100 %s"),
        ("INFO", "i"),
        ("WARNING", "w"),
        ("ERROR", "e"),
        ("INFO", "plain"),
        ("ERROR", "again"),
    ]
