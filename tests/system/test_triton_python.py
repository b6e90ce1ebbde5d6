"""A Triton repository of `backend: "python"` under a real server and stock clients."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from support.server import Server, is_alive, serving, wait_until
from support.triton_python import (
    ADD_SUB,
    ADD_SUB_CONFIG,
    ROW_CONFIG,
    STRINGS,
    STRINGS_CONFIG,
    model_code,
    write_triton_python,
)

CODE = "--allow-model-code"
DEADLINE_S = 30
# Fails for a batch with a 3 in it, and says how many rows it has seen at once; a 4 crashes it, an 8
# calls another model, a 9 answers through a response sender.
PICKY = """
if (x == 4).any():
    import os
    os._exit(4)
if (x == 8).any():
    inner = pb_utils.InferenceRequest(
        model_name="add_sub", requested_output_names=["OUTPUT0"], inputs=request.inputs()
    )
    return [response(inner.exec().output_tensors()[0].as_numpy())]
if (x == 9).any():
    request.get_response_sender().send(response(x))
    return None
if (x == 3).any():
    error = pb_utils.TritonError(f"no 3 among {len(x)}", pb_utils.TritonError.INVALID_ARG)
    return [pb_utils.InferenceResponse(error=error)]
import time
time.sleep(0.02)
return [response(x * 10, np.full_like(x, len(x)), names=("y", "rows"))]"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    write_triton_python(root, "add_sub", ADD_SUB, ADD_SUB_CONFIG)
    write_triton_python(root, "strings", STRINGS, STRINGS_CONFIG)
    rows = 'output { name: "rows" data_type: TYPE_FP32 dims: [ 1 ] }'
    write_triton_python(root, "picky", model_code(PICKY), ROW_CONFIG + rows)
    decoupled = ROW_CONFIG + "model_transaction_policy { decoupled: true }"
    write_triton_python(root, "decoupled", model_code("return None"), decoupled)
    return root


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(repository, CODE, folder=tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(server.grpc)


def inputs_of(**arrays: np.ndarray) -> list[triton.InferInput]:
    inputs = []
    for name, array in arrays.items():
        datatype = "BYTES" if array.dtype == np.object_ else "FP32"
        inputs.append(triton.InferInput(name, array.shape, datatype))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def infer_row(client: triton.InferenceServerClient, model: str, value: float) -> triton.InferResult:
    x = np.array([[value]], np.float32)
    return client.infer(model, inputs_of(x=x), client_timeout=DEADLINE_S)


def test_add_and_sub_are_answered_to_grpc_and_rest(
    server: Server, client: triton.InferenceServerClient
) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    result = client.infer("add_sub", inputs_of(INPUT0=a, INPUT1=b))
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), a * 2 + b * 2)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), (a * 2 - b * 2).astype(np.int32))
    wanted = [triton.InferRequestedOutput("OUTPUT1")]
    one = client.infer("add_sub", inputs_of(INPUT0=a, INPUT1=b), outputs=wanted)
    assert one.as_numpy("OUTPUT0") is None
    rest_inputs = [triton_http.InferInput(name, [3, 4], "FP32") for name in ("INPUT0", "INPUT1")]
    for rest_input, array in zip(rest_inputs, (a, b), strict=True):
        rest_input.set_data_from_numpy(array)
    rest = triton_http.InferenceServerClient(server.http).infer("add_sub", rest_inputs)
    np.testing.assert_array_equal(rest.as_numpy("OUTPUT0"), a * 2 + b * 2)
    config = client.get_model_config("add_sub").config
    assert (config.backend, config.parameters["scale"].string_value) == ("python", "2.0")


def test_strings_of_any_bytes_come_back(client: triton.InferenceServerClient) -> None:
    text = np.array([[b"abc", b"\xff\0"], [b"", "ä€".encode()]], dtype=np.object_)
    turned = client.infer("strings", inputs_of(text=text)).as_numpy("turned")
    assert turned.tolist() == [[one[::-1] for one in row] for row in text.tolist()]


def test_a_batch_is_one_request_and_an_error_is_only_the_guilty_client_s(
    client: triton.InferenceServerClient,
) -> None:
    values = [1, 2, 3, 5, 6, 7] * 6

    def call(value: float) -> tuple[float, float] | str:
        start.wait(DEADLINE_S)
        try:
            result = infer_row(client, "picky", value)
        except InferenceServerException as error:
            return f"{error.status()} {error.message()}"
        return float(result.as_numpy("y").item()), float(result.as_numpy("rows").item())

    start = threading.Barrier(len(values))
    with ThreadPoolExecutor(len(values)) as threads:
        outcomes = list(threads.map(call, values))
    for value, outcome in zip(values, outcomes, strict=True):
        if value == 3:
            assert outcome == "StatusCode.INVALID_ARGUMENT no 3 among 1"
        else:
            assert isinstance(outcome, tuple)
            assert outcome[0] == value * 10
    start = threading.Barrier(8)
    with ThreadPoolExecutor(8) as threads:
        joined = [outcome[1] for outcome in threads.map(call, range(10, 18)) if outcome]
    assert max(joined) > 1


def test_a_model_that_crashes_is_started_and_initialized_again(
    client: triton.InferenceServerClient,
) -> None:
    with pytest.raises(InferenceServerException, match="the worker of model 'picky:1' ended"):
        infer_row(client, "picky", 4)
    assert infer_row(client, "picky", 1).as_numpy("y") == 10


def test_what_is_not_here_is_refused_by_its_name(client: triton.InferenceServerClient) -> None:
    index = {model.name: model for model in client.get_model_repository_index().models}
    assert "decoupled: not in this version of Kedge" in index["decoupled"].reason
    with pytest.raises(InferenceServerException, match=r"InferenceRequest\.exec .*: not in this"):
        infer_row(client, "picky", 8)
    with pytest.raises(InferenceServerException, match=r"get_response_sender .*: not in this"):
        infer_row(client, "picky", 9)


def test_without_the_option_none_of_the_code_runs(repository: Path, tmp_path: Path) -> None:
    with serving(repository, folder=tmp_path) as server:
        client = triton.InferenceServerClient(server.grpc)
        index = {model.name: model for model in client.get_model_repository_index().models}
        assert "python is code" in index["add_sub"].reason
        assert "--allow-model-code" in index["add_sub"].reason


@pytest.mark.parametrize("by_signal", [False, True])
def test_finalize_runs_when_a_model_is_unloaded_and_when_the_server_ends(
    tmp_path: Path, by_signal: bool
) -> None:
    finalized = tmp_path / "finalized"
    methods = f"def finalize(self):\n        open({str(finalized)!r}, 'w')"
    root = tmp_path / "repository"
    write_triton_python(root, "m", model_code("return [response(x)]", methods=methods))
    options = ("--model-control", "explicit", "--load-model", "*")
    with serving(root, CODE, *options, folder=tmp_path) as server:
        client = triton.InferenceServerClient(server.grpc)
        (worker,) = server.workers()
        assert infer_row(client, "m", 2).as_numpy("y") == 2
        assert not finalized.exists()
        if by_signal:
            assert server.terminate() == 0
        else:
            client.unload_model("m")
        assert wait_until(lambda: not is_alive(worker), DEADLINE_S)
        assert finalized.exists()


def test_an_endpoint_file_serves_such_a_model_too(tmp_path: Path) -> None:
    folder = tmp_path / "endpoints"
    (folder / "triple").mkdir(parents=True)
    (folder / "triple" / "model.py").write_text(model_code("return [response(x * 3)]"))
    (folder / "triple.yaml").write_text(
        "apiVersion: kedge/v1\nkind: Endpoint\nname: triple\n"
        "inputs: [{name: x, datatype: FP32, shape: [-1, 1]}]\n"
        "outputs: [{name: y, datatype: FP32, shape: [-1, 1]}]\n"
        'versions: {"1": {model: triple, format: python}}\n'
    )
    with serving(folder, CODE, folder=tmp_path) as server:
        client = triton.InferenceServerClient(server.grpc)
        assert infer_row(client, "triple", 2).as_numpy("y") == 6
