"""Starting, stopping and breaking a real server: drain, tokens, bad models, kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from support.modules import Double, Identity, Slow
from support.requests import infer_request, values_of
from support.server import add_model, is_alive, serving, tensor_config, wait_until

INFER = "/inference.GRPCInferenceService/ModelInfer"
ROW = {"x": ("FP32", [1])}
ANSWER = {"y": ("FP32", [1])}
DEADLINE_S = 30


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    add_model(root, "double", Double(), tensor_config(ROW, ANSWER, 64))
    return root


def fetch(url: str, method: str = "GET", token: str = "", body: object = None) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_sigterm_under_load_loses_no_accepted_request(repository: Path, tmp_path: Path) -> None:
    """Every call ends with its own right answer or with UNAVAILABLE, and the exit code is 0."""
    endings: Counter[str] = Counter()
    with serving(repository, folder=tmp_path) as server:
        answered = threading.Event()

        def client(number: int) -> None:
            with grpc.insecure_channel(server.grpc, [("grpc.use_local_subchannel_pool", 1)]) as ch:
                infer = ch.unary_unary(INFER)
                while True:
                    request = infer_request(values=[number]).SerializeToString()
                    try:
                        right = values_of(infer(request, timeout=DEADLINE_S)) == [2 * number]
                        endings["right" if right else "wrong"] += 1
                    except grpc.RpcError as error:
                        endings[error.code().name] += 1
                        return
                    if endings["right"] > 200:
                        answered.set()

        threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        assert answered.wait(DEADLINE_S)
        assert server.terminate() == 0
        for thread in threads:
            thread.join(DEADLINE_S)
    assert set(endings) == {"right", "UNAVAILABLE"}
    assert endings["UNAVAILABLE"] == 16


def test_sigterm_answers_what_was_queued_before_it(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    add_model(root, "slow", Slow(), tensor_config(ROW, ANSWER, 1))
    with serving(root, folder=tmp_path) as server, grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(INFER)
        bodies = [infer_request("slow", [work]).SerializeToString() for work in (300, 1, 1, 1)]
        calls = [infer.future(body, timeout=DEADLINE_S) for body in bodies]
        client = triton.InferenceServerClient(server.grpc)
        assert wait_until(
            lambda: client.get_inference_statistics("slow").model_stats[0].inference_count >= 1
        )
        assert server.terminate() == 0
        assert [values_of(call.result()) for call in calls] == [[300], [1], [1], [1]]


def test_a_bad_model_is_reported_and_the_others_serve(repository: Path, tmp_path: Path) -> None:
    add_model(repository, "broken", Double(), tensor_config(ROW, {"y": ("FP32", [7])}))
    (repository / "broken_file").mkdir()
    folder = add_model(repository, "truncated", Double(), tensor_config(ROW, ANSWER))
    model = folder / "1" / "model.pt"
    model.write_bytes(model.read_bytes()[:100])
    (repository / "broken_file" / "config.pbtxt").write_text("max_batch_size: many")
    with serving(repository, folder=tmp_path) as server:
        client = triton.InferenceServerClient(server.grpc)
        index = {model.name: model for model in client.get_model_repository_index().models}
        assert index["double"].state == "READY"
        assert "expected shape [1, 7], got [1, 1]" in index["broken"].reason
        assert "config.pbtxt" in index["broken_file"].reason
        assert "model.pt" in index["truncated"].reason
        assert client.is_server_live()
        assert not client.is_server_ready()
        x = triton.InferInput("x", (1, 1), "FP32")
        x.set_data_from_numpy(np.float32([[4]]))
        assert client.infer("double", [x]).as_numpy("y").tolist() == [[8]]


def test_explicit_control_loads_and_unloads(repository: Path, tmp_path: Path) -> None:
    arguments = ("--model-control", "explicit", "--load-model", "double")
    add_model(repository, "other", Identity(), tensor_config(ROW, ANSWER))
    with serving(repository, *arguments, folder=tmp_path) as server:
        client = triton.InferenceServerClient(server.grpc)
        assert client.is_model_ready("double")
        assert not client.is_model_ready("other")
        client.load_model("other")
        assert client.is_model_ready("other")
        client.unload_model("double")
        assert wait_until(lambda: not client.is_model_ready("double"))
        x = triton.InferInput("x", (1, 1), "FP32")
        x.set_data_from_numpy(np.float32([[4]]))
        with pytest.raises(InferenceServerException, match="has no available versions"):
            client.infer("double", [x])


def test_without_explicit_control_loading_is_refused_as_triton_does(
    repository: Path, tmp_path: Path
) -> None:
    with serving(repository, folder=tmp_path) as server:
        client = triton.InferenceServerClient(server.grpc)
        with pytest.raises(InferenceServerException, match="explicit model load / unload is not"):
            client.load_model("double")


def test_tokens_open_what_their_role_needs_over_grpc_and_http(
    repository: Path, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("infer:aaa\nread:bbb\noperate:ccc\n")
    body = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [3]}],
    }
    with serving(repository, "--token-file", tokens, folder=tmp_path) as server:
        infer = f"http://{server.http}/v2/models/double/infer"
        assert fetch(infer, "POST", body=body)[0] == 401
        assert fetch(infer, "POST", "bbb", body)[0] == 403
        status, text = fetch(infer, "POST", "aaa", body)
        assert (status, json.loads(text)["outputs"][0]["data"]) == (200, [6.0])
        assert fetch(f"http://{server.http}/v2/health/ready")[0] == 200
        load = f"http://{server.http}/v2/repository/models/double/load"
        assert fetch(load, "POST", "aaa", {})[0] == 403
        assert fetch(load, "POST", "ccc", {})[0] == 503
        with grpc.insecure_channel(server.grpc) as channel:
            call = channel.unary_unary(INFER)
            request = infer_request(values=[1]).SerializeToString()
            with pytest.raises(grpc.RpcError) as caught:
                call(request, timeout=DEADLINE_S)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            metadata = (("authorization", "Bearer aaa"),)
            assert values_of(call(request, metadata=metadata, timeout=DEADLINE_S)) == [2]


def test_rest_and_metrics_show_the_same_server(repository: Path, tmp_path: Path) -> None:
    with serving(repository, folder=tmp_path) as server:
        client = triton_http.InferenceServerClient(server.http)
        x = triton_http.InferInput("x", [2, 1], "FP32")
        x.set_data_from_numpy(np.float32([[1], [2]]))
        answer = client.infer("double", [x], request_id="r")
        assert answer.as_numpy("y").tolist() == [[2], [4]]
        assert answer.get_response()["id"] == "r"
        for port in (server.metrics, server.http):
            status, text = fetch(f"http://{port}/metrics")
            assert status == 200
            assert 'nv_inference_request_success{model="double",version="1"} 1' in text
            assert 'nv_inference_count{model="double",version="1"} 2' in text
            assert 'path="fast"' in text


def test_a_killed_server_takes_all_its_processes_along(repository: Path, tmp_path: Path) -> None:
    with serving(repository, folder=tmp_path) as server:
        children = server.children()
        assert len(children) >= 2
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
        assert wait_until(lambda: not any(map(is_alive, children)))


def test_a_killed_gateway_comes_back_on_its_port_with_all_that_it_served(
    repository: Path, tmp_path: Path
) -> None:
    with serving(repository, folder=tmp_path) as server:
        gateway = server.gateway()
        os.kill(gateway, signal.SIGKILL)
        request = infer_request(values=[4]).SerializeToString()

        def answers() -> bool:
            with grpc.insecure_channel(server.grpc) as channel:
                try:
                    return values_of(channel.unary_unary(INFER)(request, timeout=1)) == [8]
                except grpc.RpcError:
                    return False

        assert wait_until(answers, DEADLINE_S)
        assert server.gateway() != gateway
        client = triton.InferenceServerClient(server.grpc)
        assert client.is_server_ready()
        assert client.get_inference_statistics("double").model_stats[0].inference_count == 1
        assert server.terminate() == 0


def test_a_killed_http_process_comes_back_on_its_port(repository: Path, tmp_path: Path) -> None:
    with serving(repository, folder=tmp_path) as server:
        (child,) = server.children("kedge.control.http")
        os.kill(child, signal.SIGKILL)
        url = f"http://{server.http}/v2/health/ready"

        def answers() -> bool:
            try:
                return fetch(url)[0] == 200
            except OSError:
                return False

        assert wait_until(
            lambda: server.children("kedge.control.http") not in ([], [child]), DEADLINE_S
        )
        assert wait_until(answers, DEADLINE_S)
        with grpc.insecure_channel(server.grpc) as channel:
            request = infer_request(values=[1]).SerializeToString()
            assert values_of(channel.unary_unary(INFER)(request, timeout=DEADLINE_S)) == [2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        (["repository", "--token-file", "bad_tokens"], "expected ROLE:TOKEN"),
        (["repository", "--grpc-port", "{grpc}"], "{grpc}"),
        (["repository", "--http-port", "{http}"], "{http}"),
        (["repository", "--metrics-port", "{metrics}"], "{metrics}"),
    ],
)
def test_a_server_that_cannot_start_says_why_and_exits_1(
    repository: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "bad_tokens").write_text("admin:x\n")
    with serving(repository, folder=tmp_path) as server:
        taken = {
            name: getattr(server, name).rpartition(":")[2] for name in ("grpc", "http", "metrics")
        }
        words = [word.format(**taken) for word in arguments]
        for option in ("--grpc-port", "--http-port", "--metrics-port"):
            if option not in words:
                words += [option, "0"]
        command = [sys.executable, "-m", "kedge.cli", "serve", *words]
        ended = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
    assert ended.returncode == 1
    assert message.format(**taken) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not ended.stdout
