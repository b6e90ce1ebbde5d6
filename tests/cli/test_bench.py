from __future__ import annotations

import json

import grpc

from cli.conftest import Kedge
from client.conftest import EchoServer


def test_it_reports_what_the_callers_saw(kedge: Kedge, server: EchoServer) -> None:
    result = kedge(
        "bench", "echo", "--address", f"localhost:{server.port}", "--concurrency", 2,
        "--seconds", 0.2, "--rows", 3, "-o", "json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert 0 < report["requests"] <= len(server.requests)
    assert report["errors"] == {}
    assert report["p50_us"] > 0
    assert list(server.requests[0].inputs[0].shape) == [3, 2]
    assert "The Python client is the limit here" in result.stderr


def test_failed_requests_fail_the_verb(kedge: Kedge, server: EchoServer) -> None:
    server.refusal = (grpc.StatusCode.UNAVAILABLE, "full")
    result = kedge("bench", "echo", "--address", f"localhost:{server.port}", "--seconds", 1)
    assert result.exit_code == 1
    assert "UNAVAILABLE" in result.stdout


def test_an_unknown_model_is_told(kedge: Kedge, server: EchoServer) -> None:
    result = kedge("bench", "other", "--address", f"localhost:{server.port}")
    assert result.exit_code == 1
    assert "unknown model: 'other'" in result.stderr
