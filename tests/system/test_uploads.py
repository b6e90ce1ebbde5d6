"""Models that stock clients upload to a real server, over gRPC and over REST."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from support.modules import Double, Identity
from support.server import serving
from support.torchscript import save

CONFIG = json.dumps(
    {
        "platform": "pytorch_libtorch",
        "max_batch_size": 8,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [1]}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [1]}],
    }
)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, dict[str, bytes]]:
    return {
        name: {"file:1/model.pt": save(module, tmp_path / name / "m.pt").read_bytes()}
        for name, module in (("double", Double()), ("same", Identity()))
    }


def test_uploaded_files_serve_until_they_are_unloaded_over_grpc_and_rest(
    files: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    uploads = tmp_path / ".kedge" / "uploads"
    x = np.array([[3.0]], np.float32)
    arguments = ("models", "--model-control", "explicit", "--allow-model-code")
    with serving(*arguments, folder=tmp_path) as server:
        grpc_client = triton.InferenceServerClient(server.grpc)
        http_client = triton_http.InferenceServerClient(server.http)
        for client, module in ((grpc_client, triton), (http_client, triton_http)):
            tensor = module.InferInput("x", x.shape, "FP32")
            tensor.set_data_from_numpy(x)
            for name, expected in (("double", 6.0), ("same", 3.0)):
                client.load_model("m", config=CONFIG, files=files[name])
                assert client.infer("m", [tensor]).as_numpy("y").tolist() == [[expected]]
            with pytest.raises(InferenceServerException, match="expected a relative path"):
                client.load_model("m", config=CONFIG, files={"file:../../m.pt": b"x"})
            with pytest.raises(InferenceServerException, match="files need the parameter 'config'"):
                client.load_model("m", files=files["same"])
            assert client.infer("m", [tensor]).as_numpy("y").tolist() == [[3.0]]
            client.unload_model("m")
            assert not client.is_model_ready("m")
            client.load_model("other", config=CONFIG, files=files["same"])
            client.unload_model("other")
        http_client.close()
        grpc_client.close()
        assert server.terminate() == 0
    assert [path for path in uploads.rglob("*") if path.is_file()] == []


def test_without_permission_an_upload_is_refused_by_name(
    files: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    with (
        serving("models", "--model-control", "explicit", folder=tmp_path) as server,
        triton.InferenceServerClient(server.grpc) as client,
    ):
        with pytest.raises(InferenceServerException) as refused:
            client.load_model("m", config=CONFIG, files=files["double"])
        assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
        assert "'file:1/model.pt'" in refused.value.message()
        assert "--allow-model-code" in refused.value.message()
