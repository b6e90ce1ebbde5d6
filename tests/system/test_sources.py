"""A real server that fetches its models from a web server of the test."""

from __future__ import annotations

import hashlib
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc as triton
from click.testing import CliRunner

from kedge.cli import main
from store.conftest import Web, web  # noqa: F401 - a fixture
from support.modules import Double
from support.requests import infer_request, values_of
from support.server import serving
from support.torchscript import save

INFER = "/inference.GRPCInferenceService/ModelInfer"
ENDPOINT = """\
apiVersion: kedge/v1
kind: Endpoint
name: double
inputs: [{name: x, datatype: FP32, shape: [-1, 1]}]
outputs: [{name: y, datatype: FP32, shape: [-1, 1]}]
versions:
"""


@pytest.fixture
def model(tmp_path: Path) -> bytes:
    path = save(Double(), tmp_path / "made" / "m.pt")
    return path.read_bytes()


def infer(address: str, version: str) -> list[float]:
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(INFER)
        request = infer_request(values=[3.0], version=version)
        return values_of(call(request.SerializeToString(), timeout=30))


def test_models_are_fetched_served_and_found_again_without_the_web(
    web: Web,  # noqa: F811
    model: bytes,
    tmp_path: Path,
) -> None:
    sha256 = hashlib.sha256(model).hexdigest()
    url = web.put("/m.pt", model, '"1"')
    gone = url.replace("m.pt", "gone.pt")
    endpoint = tmp_path / "double.yaml"
    pinned = f'  "1": {{model: "{url}?sig=topsecret", sha256: {sha256}}}\n'
    endpoint.write_text(ENDPOINT + pinned + f'  "2": {{model: "{gone}?sig=topsecret"}}\n')
    with serving(endpoint, "--model-control", "poll", folder=tmp_path) as server:
        assert infer(server.grpc, "1") == [6.0]
        with triton.InferenceServerClient(server.grpc) as client:
            index = client.get_model_repository_index(as_json=True)["models"]
        assert index[1]["reason"] == f"{gone}: there is no such file (HTTP 404)"
        assert index[1]["state"] == "UNAVAILABLE"
        assert server.terminate() == 0
        assert "topsecret" not in server.log.read_text()
    asked = len(web.requests)
    endpoint.write_text(ENDPOINT + pinned)
    with serving(endpoint, folder=tmp_path) as server:
        assert infer(server.grpc, "") == [6.0]
    assert len(web.requests) == asked


def test_doctor_fetches_and_validate_does_not(
    web: Web,  # noqa: F811
    model: bytes,
    tmp_path: Path,
) -> None:
    url = web.put("/m.pt", model, '"1"')
    gone = url.replace("m.pt", "gone.pt")
    endpoint = tmp_path / "double.yaml"
    endpoint.write_text(ENDPOINT + f'  "1": {{model: "{url}"}}\n  "2": {{model: "{gone}"}}\n')
    result = CliRunner().invoke(main, ["validate", str(endpoint), "-o", "json"])
    assert result.exit_code == 0, result.output
    assert f'"file": "{url}"' in result.output
    assert web.requests == []
    ports = ["--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"]
    state = ["--state", str(tmp_path / "state")]
    result = CliRunner().invoke(main, ["doctor", str(endpoint), *ports, *state])
    assert result.exit_code == 1
    assert f"loads and runs on cpu: {url} " in result.output
    assert f"{gone}: there is no such file (HTTP 404)" in result.output
