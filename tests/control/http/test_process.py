"""The life of the process: start, ports, the gateway's absence, and its three ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.fake_gateway import running_gateway
from support.http_process import END_S_MAX, HttpProcess, running_http

NOBODY = "127.0.0.1:1"
HEAVY = ("torch", "numba", "kedge_kernels", "pygrpc_native", "pydantic", "kedge.app")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def refuses_connections(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_it_says_where_it_listens_before_there_is_a_gateway() -> None:
    with running_http(NOBODY) as http:
        assert re.fullmatch(r"http=127\.0\.0\.1:\d+ metrics=127\.0\.0\.1:\d+\n", http.ready_line)
        assert http.http != http.metrics


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_it_listens_on_ipv6() -> None:
    with running_http(NOBODY, "--host", "::1") as http:
        assert re.fullmatch(r"http=\[::1\]:\d+ metrics=\[::1\]:\d+\n", http.ready_line)
        assert http.request("GET", "/nothing").status == 404


def test_without_a_gateway_everything_is_503_and_with_one_it_works() -> None:
    port = free_port()
    with running_http(f"127.0.0.1:{port}") as http:
        for address, path in (
            (http.http, "/v2/health/live"),
            (http.http, "/v2/health/ready"),
            (http.http, "/v2/models/echo"),
            (http.metrics, "/metrics"),
        ):
            answer = http.request("GET", path, address=address)
            assert answer.status == 503
            assert answer.json["error"]
        with running_gateway(port):
            statuses = {http.request("GET", "/v2/health/live").status}
            # It looks for the gateway at least twice a second; the tests' own time limit ends this.
            while 200 not in statuses:
                statuses.add(http.request("GET", "/v2/health/live").status)
        assert statuses <= {200, 503}


def test_a_killed_parent_ends_it() -> None:
    with running_http(NOBODY) as http:
        http.lose_parent()
        assert http.wait() == (0, "")
        assert refuses_connections(http.http)


def test_sigterm_ends_it_after_the_running_requests() -> None:
    with (
        running_gateway() as (gateway, address),
        running_http(address) as http,
        ThreadPoolExecutor(1) as threads,
    ):
        body = {"inputs": []}
        running = threads.submit(http.request, "POST", "/v2/models/wait/infer", body)
        assert gateway.waiting.wait(END_S_MAX)
        http.process.send_signal(signal.SIGTERM)
        while not refuses_connections(http.http):
            assert not running.done()
        gateway.go.set()
        assert running.result(END_S_MAX).status == 200
        assert http.wait() == (0, "")
        assert not gateway.cancelled.is_set()


def test_ctrl_c_in_the_terminal_is_the_gateways_to_handle() -> None:
    with running_http(NOBODY) as http:
        http.process.send_signal(signal.SIGINT)
        assert http.request("GET", "/nothing").status == 404


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        http = HttpProcess(NOBODY, http_port=port)
        assert http.ready_line == ""
        code, errors = http.wait()
    assert (code, errors) == (1, f"cannot listen on 127.0.0.1:{port}: Address already in use\n")
    http.lose_parent()


def test_it_imports_nothing_that_only_the_gateway_needs() -> None:
    program = "import json, sys, kedge.control.http.__main__; print(json.dumps(list(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert set(HEAVY).isdisjoint(json.loads(output))
