from __future__ import annotations

import math

import grpc

from client.conftest import EchoServer
from kedge.client import Client
from kedge.client.load import Load, run_load
from kedge.client.samples import random_requests


def load_of(client: Client, timeout_s: float = 10) -> Load:
    payloads = random_requests(client.metadata("echo"), "", 2, 16, seed=0)
    return Load(client.address, "secret", payloads, 4, 0.3, timeout_s)


def test_all_answered_requests_are_counted_and_timed(client: Client, server: EchoServer) -> None:
    seen: list[tuple[float, int]] = []
    report = run_load(load_of(client), lambda share, requests: seen.append((share, requests)))
    assert 0 < report.requests <= len(server.requests)
    assert report.errors == {}
    assert report.requests_per_s == round(report.requests / 0.3, 1)
    assert 0 < report.p50_us <= report.p90_us <= report.p99_us <= report.max_us
    assert seen[0] == (0.0, 0)
    assert [share for share, _ in seen] == sorted(share for share, _ in seen)
    assert server.call_metadata["authorization"] == "Bearer secret"


def test_all_payloads_are_sent_in_turn(client: Client, server: EchoServer) -> None:
    run_load(load_of(client), lambda *_: None)
    sent = [request.raw_input_contents[0] for request in server.requests]
    assert len(set(sent)) == 16


def test_refused_requests_are_counted_by_status_and_not_timed(
    client: Client, server: EchoServer
) -> None:
    load = load_of(client)
    server.refusal = (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
    report = run_load(load, lambda *_: None)
    assert report.requests == 0
    assert list(report.errors) == ["UNAVAILABLE"]
    assert report.errors["UNAVAILABLE"] > 0
    assert math.isnan(report.p50_us)
