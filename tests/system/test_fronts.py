"""A real server behind the grpcio front: streams of stock clients, mTLS, REST beside them."""

from __future__ import annotations

import asyncio
import json
import queue
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from support.certificates import authority, signed
from support.modules import Double, Slow
from support.requests import infer_request, values_of
from support.server import Server, add_model, serving, tensor_config

INFER = "/inference.GRPCInferenceService/ModelInfer"
ROW = {"x": ("FP32", [1])}
ANSWER = {"y": ("FP32", [1])}
DEADLINE_S = 30


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    add_model(root, "double", Double(), tensor_config(ROW, ANSWER, 64))
    add_model(root, "slow", Slow(), tensor_config(ROW, ANSWER, 1))
    return root


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(repository, "--front", "grpcio", folder=folder) as server:
        yield server


def fp32(value: float) -> triton.InferInput:
    tensor = triton.InferInput("x", (1, 1), "FP32")
    tensor.set_data_from_numpy(np.float32([[value]]))
    return tensor


def test_a_stock_clients_stream_keeps_going_over_errors(server: Server) -> None:
    answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    with triton.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for index in range(30):
            client.async_stream_infer(
                "double" if index % 3 else "nobody",
                [fp32(index)],
                request_id=str(index),
                enable_empty_final_response=index % 2 == 0,
            )
        client.stop_stream()
        received = [answers.get(timeout=DEADLINE_S) for _ in range(30)]
    errors = [error for _, error in received if error is not None]
    assert [str(error.message()) for error in errors] == [
        "Request for unknown model: 'nobody' is not found"
    ] * 10
    results = {result.get_response().id: result for result, error in received if error is None}
    assert sorted(map(int, results)) == [index for index in range(30) if index % 3]
    for own_id, result in results.items():
        assert result.as_numpy("y").tolist() == [[2 * float(own_id)]]
        assert result.get_response().parameters["triton_final_response"].bool_param
    assert answers.empty()


def test_a_stock_asyncio_stream_gets_every_answer(server: Server) -> None:
    async def run() -> list[list[list[float]]]:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            for index in range(20):
                yield {"model_name": "double", "inputs": [fp32(index)]}

        async with triton_aio.InferenceServerClient(server.grpc) as client:
            return [
                result.as_numpy("y").tolist()
                async for result, error in client.stream_infer(requests())
                if error is None
            ]

    answers = asyncio.run(asyncio.wait_for(run(), DEADLINE_S))
    assert sorted(answers) == [[[2.0 * index]] for index in range(20)]


def test_with_triton_grpc_error_a_stock_stream_ends_with_the_status(server: Server) -> None:
    answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    with triton.InferenceServerClient(server.grpc) as client:
        client.start_stream(
            lambda result, error: answers.put((result, error)),
            headers={"triton_grpc_error": "true"},
        )
        client.async_stream_infer("nobody", [fp32(1)])
        _, error = answers.get(timeout=DEADLINE_S)
        assert isinstance(error, InferenceServerException)
        assert error.status() == "StatusCode.NOT_FOUND"
        client.stop_stream()


def test_a_cancelled_streams_waiting_messages_are_never_executed(server: Server) -> None:
    def executed() -> int:
        statistics = client.get_inference_statistics("slow").model_stats[0]
        return int(statistics.inference_count)

    with triton.InferenceServerClient(server.grpc) as client:
        before = executed()
        client.start_stream(lambda result, error: None)
        for work in (1_000, 1, 1, 1):
            client.async_stream_infer("slow", [fp32(work)])
        # The first one runs for a second after this, and the others wait behind it.
        threading.Event().wait(0.3)
        client.stop_stream(cancel_requests=True)
        client.infer("slow", [fp32(1)])
        assert executed() - before == 2


def fetch(url: str, token: str = "", body: object = None) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = json.dumps(body).encode() if body is not None else None
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data, headers), timeout=DEADLINE_S
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_behind_mtls_rest_applies_the_same_roles_and_nobody_else_gets_in(
    repository: Path, tmp_path: Path
) -> None:
    ca = authority(tmp_path, "ca")
    own, client = signed(tmp_path, "server", ca), signed(tmp_path, "client", ca)
    (tmp_path / "tokens").write_text("infer:aaa\nread:bbb\noperate:ccc\n")
    options = ["--token-file", tmp_path / "tokens", "--tls-cert", own.cert, "--tls-key", own.key]
    with serving(repository, *options, "--tls-client-ca", ca.cert, folder=tmp_path) as server:
        request = infer_request(values=[3]).SerializeToString()
        credentials = grpc.ssl_channel_credentials(
            ca.cert.read_bytes(), client.key.read_bytes(), client.cert.read_bytes()
        )
        with grpc.secure_channel(server.grpc, credentials) as channel:
            call = channel.unary_unary(INFER)
            metadata = (("authorization", "Bearer aaa"),)
            assert values_of(call(request, metadata=metadata, timeout=DEADLINE_S)) == [6]
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                call(request, timeout=DEADLINE_S)
        with (
            grpc.insecure_channel(server.grpc) as channel,
            pytest.raises(grpc.RpcError, match="UNAVAILABLE"),
        ):
            channel.unary_unary(INFER)(request, metadata=metadata, timeout=DEADLINE_S)
        infer = f"http://{server.http}/v2/models/double/infer"
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [3]}]}
        assert fetch(infer, body=body)[0] == 401
        assert fetch(infer, "bbb", body)[0] == 403
        status, text = fetch(infer, "aaa", body)
        assert (status, json.loads(text)["outputs"][0]["data"]) == (200, [6.0])
        assert fetch(f"http://{server.http}/v2/health/ready")[0] == 200
        assert fetch(f"http://{server.metrics}/metrics", "bbb")[0] == 200
        assert own_sockets_refuse_strangers(server)
        assert server.terminate() == 0


def own_sockets_refuse_strangers(server: Server) -> bool:
    """The abstract sockets that anyone finds in /proc/net/unix answer nothing without a secret."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    inodes = {link.readlink().name for link in Path(f"/proc/{server.gateway()}/fd").iterdir()}
    owned = [
        line.split("@", 1)[1]
        for line in lines
        if "@kedge-" in line and f"socket:[{line.split()[6]}]" in inodes
    ]
    assert owned
    for name in set(owned):
        with grpc.insecure_channel(f"unix-abstract:{name}") as channel:
            call = channel.unary_unary(INFER)
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                call(b"", metadata=(("authorization", "Bearer aaa"),), timeout=DEADLINE_S)
    # Nor does the process's command line tell the secret to other users.
    (child,) = server.children("kedge.control.http")
    return b"secret" not in Path(f"/proc/{child}/cmdline").read_bytes().lower()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--front", "native", "--tls-cert", "server.pem", "--tls-key", "server.key"),
            "--tls-cert cannot be used with --front native, which has no TLS",
        ),
        (
            ("--tls-cert", "server.pem", "--tls-key", "ca.key"),
            "--tls-key ca.key does not belong to --tls-cert server.pem",
        ),
    ],
)
def test_what_cannot_be_secured_does_not_start(
    repository: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    signed(tmp_path, "server", authority(tmp_path, "ca"))
    command = [sys.executable, "-m", "kedge.cli", "serve", str(repository), *options]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert ended.returncode == 1
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
