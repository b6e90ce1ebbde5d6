"""Requests to the real process in front of a gateway of tritonclient's own messages."""

from __future__ import annotations

import gzip
import socket
import zlib

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.fake_gateway import FakeGateway
from support.http_process import HttpProcess

INFER = "/v2/models/echo/infer"
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[1, 2.5]]}
ECHO = {
    "id": "q",
    "model_name": "echo",
    "model_version": "2",
    "outputs": [TENSOR | {"data": [1.0, 2.5]}],
}


def infer_body(**changes: object) -> dict[str, object]:
    return {"id": "q", "inputs": [TENSOR], **changes}


def raw_exchange(address: str, sent: bytes) -> bytes:
    """What comes back for bytes that no HTTP client would send, up to the end of the connection."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def test_json_is_inferred_as_raw_contents_and_answered_as_json(
    http: HttpProcess, gateway: FakeGateway
) -> None:
    answer = http.request("POST", "/v2/models/echo/versions/2/infer", infer_body())
    assert (answer.status, answer.json) == (200, ECHO)
    assert answer.headers["content-type"] == "application/json"
    assert (gateway.request.model_name, gateway.request.model_version) == ("echo", "2")
    assert list(gateway.request.raw_input_contents) == [b"\0\0\x80?\0\0 @"]


@pytest.mark.parametrize("version", ["", "/versions/2"])
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "ModelMetadataRequest"),
        ("/config", "ModelConfigRequest"),
        ("/stats", "ModelStatisticsRequest"),
        ("/ready", "ModelReadyRequest"),
    ],
)
def test_questions_about_a_model_carry_its_name_and_version(
    http: HttpProcess, gateway: FakeGateway, version: str, path: str, expected: str
) -> None:
    assert http.request("GET", f"/v2/models/echo{version}{path}").status == 200
    asked = gateway.request
    assert (asked.DESCRIPTOR.name, asked.name) == (expected, "echo")
    assert asked.version == ("2" if version else "")


def test_statistics_without_a_model_are_those_of_all(
    http: HttpProcess, gateway: FakeGateway
) -> None:
    answer = http.request("GET", "/v2/models/stats")
    assert gateway.request.name == ""
    (entry,) = answer.json["model_stats"]
    assert entry["inference_stats"]["success"] == {"count": 3, "ns": 2**40}


def test_health_is_200_or_400_as_kserve_has_it(http: HttpProcess, gateway: FakeGateway) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/echo/ready"):
        answer = http.request("GET", path)
        assert (answer.status, answer.body) == (200, b"")
    gateway.is_ready = False
    assert http.request("GET", "/v2/health/live").status == 200
    assert http.request("HEAD", "/v2/health/ready").status == 400
    answer = http.request("GET", "/v2/models/echo/ready")
    assert (answer.status, answer.json) == (400, {"error": "Model version not ready"})


@pytest.mark.parametrize(
    ("grpc_status", "http_status"),
    [
        ("INVALID_ARGUMENT", 400),
        ("UNAUTHENTICATED", 401),
        ("PERMISSION_DENIED", 403),
        ("NOT_FOUND", 404),
        ("RESOURCE_EXHAUSTED", 429),
        ("INTERNAL", 500),
        ("UNIMPLEMENTED", 501),
        ("UNAVAILABLE", 503),
        ("DEADLINE_EXCEEDED", 504),
        ("ALREADY_EXISTS", 400),
        ("UNKNOWN", 400),
        ("OUT_OF_RANGE", 400),
    ],
)
def test_what_the_gateway_refuses_has_its_http_status_and_its_text(
    http: HttpProcess, gateway: FakeGateway, grpc_status: str, http_status: int
) -> None:
    answer = http.request("POST", f"/v2/models/{grpc_status}/infer", infer_body())
    assert (answer.status, answer.json) == (http_status, {"error": f"refused with {grpc_status}"})


def test_the_token_goes_to_the_gateway_and_every_call_has_a_deadline(
    http: HttpProcess, gateway: FakeGateway
) -> None:
    http.request("GET", "/v2", headers={"Authorization": "Bearer abc"})
    assert gateway.call_metadata["authorization"] == "Bearer abc"
    assert gateway.left_s is not None
    # gRPC rounds a deadline up when it sends it.
    assert 0 < gateway.left_s < 65
    http.request("GET", "/v2")
    assert "authorization" not in gateway.call_metadata


def test_a_token_that_no_metadata_can_carry_is_refused(http: HttpProcess) -> None:
    head = b"GET /v2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: \xe9\r\n\r\n"
    assert b"characters that no token has" in raw_exchange(http.http, head)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", INFER, 405),
        ("POST", "/v2", 405),
        ("GET", "/v2/repository/index", 405),
        ("GET", "/", 404),
        ("GET", "/v2/", 404),
        ("GET", "/v2/models/echo/nothing", 404),
        ("GET", "/v2/models//ready", 404),
        ("GET", "/v2/models/a/b/ready", 404),
    ],
)
def test_other_paths_and_methods_are_refused_as_json(
    http: HttpProcess, method: str, path: str, status: int
) -> None:
    answer = http.request(method, path)
    assert answer.status == status
    assert answer.json == {"error": "Not Found" if status == 404 else "Method Not Allowed"}


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_compressed_requests_are_understood(
    http: HttpProcess, gateway: FakeGateway, encoding: str, compress: object
) -> None:
    body = b'{"inputs":[{"name":"x","datatype":"UINT8","shape":[1],"data":[7]}]}'
    packed = compress(body)  # type: ignore[operator]
    answer = http.request("POST", INFER, packed, {"Content-Encoding": encoding})
    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [7])


@pytest.mark.parametrize(
    ("headers", "status", "expected"),
    [
        ({"Content-Encoding": "br"}, 415, "expected Content-Encoding gzip or deflate, got br"),
        ({"Content-Encoding": "gzip"}, 400, "the body is no gzip data"),
        ({"Inference-Header-Content-Length": "-1"}, 400, "expected a number, got '-1'"),
        ({"Inference-Header-Content-Length": "1e3"}, 400, "expected a number, got '1e3'"),
        ({"Inference-Header-Content-Length": "9" * 5000}, 400, "expected a number, got '999"),
        ({"Inference-Header-Content-Length": "99"}, 400, "got 99"),
    ],
)
def test_wrong_headers_are_refused(
    http: HttpProcess, headers: dict[str, str], status: int, expected: str
) -> None:
    answer = http.request("POST", INFER, b"{}", headers)
    assert answer.status == status
    assert expected in answer.json["error"]


def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(http: HttpProcess) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {2**26 + 1}"
    received = raw_exchange(http.http, head.encode() + b"\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"the body is larger than 67108864 bytes; use gRPC for it" in received


def test_what_is_no_http_is_refused_and_the_next_client_served(http: HttpProcess) -> None:
    assert raw_exchange(http.http, b"\0\1\2 garbage\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert http.request("GET", "/v2").status == 200


def test_a_client_that_leaves_cancels_its_call(http: HttpProcess, gateway: FakeGateway) -> None:
    host, _, port = http.http.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        body = b'{"inputs":[]}'
        head = f"POST /v2/models/wait/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}"
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        assert gateway.waiting.wait(20)
        assert not gateway.cancelled.is_set()
    assert gateway.cancelled.wait(20)


def test_metrics_are_on_both_ports_and_nothing_else_on_theirs(
    http: HttpProcess, gateway: FakeGateway
) -> None:
    for address in (http.http, http.metrics):
        answer = http.request("GET", "/metrics", address=address)
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {
            family.name: family for family in text_string_to_metric_families(answer.body.decode())
        }
        assert families["kedge_queue_bytes"].samples[0].value == 7
    for path in ("/v2", "/v2/health/ready"):
        assert http.request("GET", path, address=http.metrics).status == 404


def test_a_refusal_that_quotes_the_client_stays_short(
    http: HttpProcess, gateway: FakeGateway
) -> None:
    name = "n" * 100_000
    answer = http.request("POST", INFER, {"inputs": [{"name": name}]})
    assert answer.status == 400
    assert answer.json["error"].startswith("input 'nnn")
    assert len(answer.json["error"]) < 1_100
