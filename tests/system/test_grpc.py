"""A real server under stock clients: tritonclient.grpc, grpc.aio, raw bytes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from support.modules import Double, Identity, Lookup, Slow, Upper
from support.requests import infer_request, values_of
from support.server import Server, add_model, serving, tensor_config, wait_until

INFER = "/inference.GRPCInferenceService/ModelInfer"
DATATYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BF16": ml_dtypes.bfloat16,
}
DEADLINE_S = 30


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    row = {"x": ("FP32", [1])}
    add_model(root, "double", Double(), tensor_config(row, {"y": ("FP32", [1])}, 64), (1, 3))
    (root / "double" / "config.pbtxt").open("a").write("version_policy { all {} }\n")
    add_model(root, "slow", Slow(), tensor_config(row, {"y": ("FP32", [1])}, 1))
    add_model(root, "upper", Upper(), tensor_config({"x": ("STRING", [1])}, {"y": ("STRING", [1])}))
    add_model(
        root, "lookup", Lookup(), tensor_config({"x": ("INT64", [1])}, {"y": ("FP32", [2])}, 64)
    )
    for name in DATATYPES:
        tensors = tensor_config({"x": (name, [-1])}, {"y": (name, [-1])})
        add_model(root, f"identity_{name}", Identity(), tensors)
    return root


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(repository, folder=tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc) as client:
        yield client


def tensor(values: Any, datatype: str, name: str = "x") -> triton.InferInput:
    array = np.asarray(values)
    wanted = triton.InferInput(name, array.shape, datatype)
    wanted.set_data_from_numpy(array)
    return wanted


def fp32(*values: float) -> triton.InferInput:
    return tensor(np.float32(values).reshape(-1, 1), "FP32")


def inferences(client: triton.InferenceServerClient, model: str) -> int:
    return int(client.get_inference_statistics(model).model_stats[0].inference_count)


def wait_until_it_runs() -> None:
    """What was just sent is on the executor after this: calls may overtake each other."""
    threading.Event().wait(0.2)


def test_health_metadata_and_config_are_answered(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("double", "3")
    assert not client.is_model_ready("double", "2")
    assert client.get_server_metadata().name == "triton"
    metadata = client.get_model_metadata("double")
    assert list(metadata.versions) == ["1", "3"]
    assert list(metadata.inputs[0].shape) == [-1, 1]
    assert client.get_model_config("double").config.max_batch_size == 64


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
def test_every_fixed_size_datatype_comes_back_bit_by_bit(
    client: triton.InferenceServerClient, datatype: str
) -> None:
    values = (np.arange(6).reshape(2, 3) % 2).astype(DATATYPES[datatype])
    answer = client.infer(f"identity_{datatype}", [tensor(values, datatype)])
    assert answer.as_numpy("y").tobytes() == values.tobytes()


def test_bytes_tensors_pass(client: triton.InferenceServerClient) -> None:
    values = np.array([["ab"], [""], ["cé"]], dtype=object)
    answer = client.infer("upper", [tensor(values, "BYTES")], request_id="s")
    assert [text.decode() for text in answer.as_numpy("y")[:, 0]] == ["AB", "", "Cé"]
    assert answer.get_response().id == "s"


def test_versions_outputs_and_ids(client: triton.InferenceServerClient) -> None:
    for version, answered in [("", "3"), ("1", "1"), ("3", "3")]:
        answer = client.infer("double", [fp32(1)], version, request_id="me").get_response()
        assert (answer.model_version, answer.id) == (answered, "me")
    wanted = [triton.InferRequestedOutput("y")]
    assert client.infer("double", [fp32(4)], outputs=wanted).as_numpy("y").tolist() == [[8]]


@pytest.mark.parametrize(
    ("model", "version", "status", "message"),
    [
        ("nobody", "", "NOT_FOUND", "Request for unknown model: 'nobody' is not found"),
        ("double", "2", "NOT_FOUND", "'double' version 2 is not found"),
        ("double", "x", "INVALID_ARGUMENT", "failed to get model version from specified version"),
    ],
)
def test_wrong_addresses_are_refused_as_triton_does(
    client: triton.InferenceServerClient, model: str, version: str, status: str, message: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [fp32(1)], version)
    assert caught.value.status() == f"StatusCode.{status}"
    assert message in caught.value.message()


def test_64_clients_at_once_each_get_their_own_answer(server: Server) -> None:
    async def one(client: triton_aio.InferenceServerClient, value: float) -> None:
        for step in range(20):
            answer = await client.infer("double", [fp32(value, step)])
            assert answer.as_numpy("y").tolist() == [[2 * value], [2 * step]]

    async def all_of_them() -> None:
        clients = [triton_aio.InferenceServerClient(server.grpc) for _ in range(8)]
        await asyncio.gather(*(one(clients[index % 8], float(index)) for index in range(64)))
        for client in clients:
            await client.close()

    asyncio.run(asyncio.wait_for(all_of_them(), DEADLINE_S))


def test_a_hundred_queued_calls_that_a_client_cancels_are_never_executed(
    server: Server, client: triton.InferenceServerClient
) -> None:
    before = inferences(client, "slow")
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(INFER)
        first = infer.future(infer_request("slow", [1_000]).SerializeToString(), timeout=DEADLINE_S)
        wait_until_it_runs()
        calls = [
            infer.future(infer_request("slow", [1]).SerializeToString(), timeout=DEADLINE_S)
            for _ in range(100)
        ]
        wait_until_it_runs()  # and the others have arrived behind it
        for call in calls:
            call.cancel()
        assert values_of(first.result()) == [1_000]
        last = infer(infer_request("slow", [2]).SerializeToString(), timeout=DEADLINE_S)
    assert values_of(last) == [2]
    assert inferences(client, "slow") - before == 2


def test_a_deadline_that_passes_in_the_queue_is_never_executed(
    server: Server, client: triton.InferenceServerClient
) -> None:
    before = inferences(client, "slow")
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(INFER)
        first = infer.future(infer_request("slow", [1_000]).SerializeToString(), timeout=DEADLINE_S)
        wait_until_it_runs()
        late = infer.future(infer_request("slow", [1]).SerializeToString(), timeout=0.1)
        assert late.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
        first.result()
        infer(infer_request("slow", [2]).SerializeToString(), timeout=DEADLINE_S)
    assert inferences(client, "slow") - before == 2


def test_a_killed_client_frees_its_slots(
    server: Server, client: triton.InferenceServerClient
) -> None:
    """kill -9 of a process with 50 calls behind a running one: none of the 50 runs."""
    before = inferences(client, "slow")
    body = server.log.parent / "body"
    body.write_bytes(infer_request("slow", [1]).SerializeToString())
    script = (
        "import grpc, pathlib\n"
        f"infer = grpc.insecure_channel({server.grpc!r}).unary_unary({INFER!r})\n"
        f"body = pathlib.Path({str(body)!r}).read_bytes()\n"
        "calls = [infer.future(body) for _ in range(50)]\n"
        "print('sent', flush=True)\n"
        "calls[0].result()\n"
    )
    with grpc.insecure_channel(server.grpc) as channel:
        first = channel.unary_unary(INFER).future(
            infer_request("slow", [3_000]).SerializeToString(), timeout=DEADLINE_S
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "sent\n"
            wait_until_it_runs()  # and the calls have left the other's socket
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
        assert not first.done()
        assert values_of(first.result()) == [3_000]
    assert inferences(client, "slow") - before == 1


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (b"\xff", grpc.StatusCode.INTERNAL),
        (b"", grpc.StatusCode.NOT_FOUND),
        (infer_request(datatype="FP64").SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT),
        (infer_request(shape=(1, 2)).SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT),
        (infer_request(shape=(-1, 1)).SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT),
        (
            infer_request(shape=(0, 1), raw=b"").SerializeToString(),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (infer_request(raw=b"123").SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT),
        (infer_request(name="z").SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT),
        (infer_request(outputs=["z"]).SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT),
        (
            infer_request(values=[0.0] * 65).SerializeToString(),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            infer_request(parameters={"sequence_start": 1}).SerializeToString(),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ],
)
def test_malformed_requests_get_their_status_and_leave_their_neighbours_alone(
    server: Server, payload: bytes, status: grpc.StatusCode
) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(INFER)
        good = infer_request(values=[7]).SerializeToString()
        calls = [
            infer.future(payload if index % 2 else good, timeout=DEADLINE_S) for index in range(20)
        ]
        for index, call in enumerate(calls):
            if index % 2:
                assert call.exception().code() is status
                assert call.exception().details()
            else:
                assert values_of(call.result()) == [14]


def test_a_request_that_makes_the_model_raise_fails_alone(
    server: Server, client: triton.InferenceServerClient
) -> None:
    def lookup(index: int) -> str:
        try:
            client.infer("lookup", [tensor(np.int64([[index]]), "INT64")])
        except InferenceServerException as error:
            return str(error.message())
        return "ok"

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lookup, [0, 1, 2, 9] * 16))
    assert [result == "ok" for result in results] == [True, True, True, False] * 16
    assert all("index out of range" in result for result in results[3::4])


def test_typed_contents_and_parameters_take_the_protobuf_path(server: Server) -> None:
    request = pb.ModelInferRequest(model_name="double", id="typed")
    request.inputs.add(name="x", datatype="FP32", shape=[2, 1]).contents.fp32_contents.extend(
        [1, 2]
    )
    request.parameters["note"].string_param = "kept"
    with grpc.insecure_channel(server.grpc) as channel:
        answer = channel.unary_unary(INFER)(request.SerializeToString(), timeout=DEADLINE_S)
    assert values_of(answer) == [2, 4]


def test_64_mib_pass_each_way(client: triton.InferenceServerClient) -> None:
    values = np.random.default_rng(1).random((1, 16 * 1024 * 1024), np.float32)
    answer = client.infer("identity_FP32", [tensor(values, "FP32")])
    assert answer.as_numpy("y").tobytes() == values.tobytes()


def test_statistics_add_up(client: triton.InferenceServerClient) -> None:
    def stats() -> Any:
        return client.get_inference_statistics("double", "1").model_stats[0]

    before = stats()
    for _ in range(5):
        client.infer("double", [fp32(1, 2)], "1")
    after = stats()
    assert after.inference_stats.success.count - before.inference_stats.success.count == 5
    assert after.inference_count - before.inference_count == 10
    assert after.last_inference > 1_700_000_000_000
    assert wait_until(lambda: stats().inference_stats.fail.count == 0)
