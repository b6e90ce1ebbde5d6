"""Triton's own HTTP client, unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from support.fake_gateway import FakeGateway
from support.http_process import HttpProcess

ROWS = np.array([[1.0, np.nan, -2.5]], np.float32)


@pytest.fixture
def client(http: HttpProcess, gateway: FakeGateway) -> Iterator[InferenceServerClient]:
    client = InferenceServerClient(http.http, concurrency=8)
    yield client
    client.close()


def infer_input(array: Any, datatype: str, *, binary: bool = True) -> InferInput:
    tensor = InferInput("x", list(array.shape), datatype)
    return tensor.set_data_from_numpy(array, binary_data=binary)


def test_health_and_descriptions(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo")
    assert client.is_model_ready("echo", "2")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["name"] == "triton"
    assert client.get_model_metadata("echo")["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
    ]
    assert client.get_model_config("echo", "2")["max_batch_size"] == 8
    assert client.get_inference_statistics()["model_stats"][0]["inference_count"] == 5
    assert client.get_inference_statistics("echo")["model_stats"][0]["version"] == "2"


def test_the_repository(client: InferenceServerClient, gateway: FakeGateway) -> None:
    assert [entry["name"] for entry in client.get_model_repository_index()] == ["echo", "n"]
    client.load_model("echo", config="{}", files={"file:1/model.pt": b"\0\xff"})
    assert gateway.request.parameters["file:1/model.pt"].bytes_param == b"\0\xff"
    client.unload_model("echo", unload_dependents=True)
    assert gateway.request.parameters["unload_dependents"].bool_param is True


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False, None])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_inference_in_every_form(
    client: InferenceServerClient,
    binary_input: bool,
    binary_output: bool | None,
    compression: str | None,
) -> None:
    wish = None
    if binary_output is not None:
        wish = [InferRequestedOutput("x", binary_data=binary_output)]
    result = client.infer(
        "echo",
        [infer_input(ROWS, "FP32", binary=binary_input)],
        model_version="2",
        outputs=wish,
        request_id="q",
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    np.testing.assert_array_equal(result.as_numpy("x"), ROWS)
    assert result.get_response()["id"] == "q"


@pytest.mark.parametrize(
    ("array", "datatype"),
    [
        (np.array([1.5], np.float16), "FP16"),
        (np.array([[b"a", b"\xff\0"]], np.object_), "BYTES"),
        (np.empty((0, 3), np.int64), "INT64"),
        (np.arange(1_000_000, dtype=np.uint8), "UINT8"),
    ],
)
def test_binary_data_of_any_kind_and_size(
    client: InferenceServerClient, array: Any, datatype: str
) -> None:
    result = client.infer("echo", [infer_input(array, datatype)])
    np.testing.assert_array_equal(result.as_numpy("x"), array)


def test_many_requests_at_once_each_get_their_own_answer(client: InferenceServerClient) -> None:
    running = [
        client.async_infer("echo", [infer_input(np.array([number], np.int32), "INT32")])
        for number in range(100)
    ]
    answers = [request.get_result(timeout=30).as_numpy("x").tolist() for request in running]
    assert answers == [[number] for number in range(100)]


def test_refusals_keep_their_text_and_their_status(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.infer("other", [infer_input(ROWS, "FP32")])
    assert refused.value.message() == "Request for unknown model: 'other' is not found"
    assert refused.value.status() == "404"
