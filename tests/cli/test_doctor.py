from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import torch

from cli.conftest import ENDPOINT, Kedge

ANY_PORTS = ("--grpc-port", 0, "--http-port", 0, "--metrics-port", 0)


class Loud(torch.nn.Module):
    """Prints while it runs, as models do that were debugged."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print("a model prints")  # noqa: T201
        return x


class Wide(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x], 1)


def save(module: torch.nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.script(module), str(path))


def findings(kedge: Kedge, *targets: Path | str) -> tuple[int, dict[str, dict[str, Any]]]:
    result = kedge("doctor", *targets, *ANY_PORTS, "-o", "json")
    return result.exit_code, {row["check"]: row for row in json.loads(result.stdout)}


def test_models_are_loaded_and_run_each_on_its_own(kedge: Kedge, project: Path) -> None:
    save(Loud(), project / "model.pt")
    save(Wide(), project / "wide.pt")
    (project / "none.pt").write_bytes(b"no TorchScript")
    for name in ("wide", "none"):
        text = ENDPOINT.replace("tiny", name).replace("model.pt", f"{name}.pt")
        (project / f"{name}.yaml").write_text(text)
    exit_code, rows = findings(kedge, project)
    assert exit_code == 1
    assert rows["model tiny:1"]["state"] == "ok"
    assert rows["model none:1"]["state"] == "fail"
    assert rows["model wide:1"]["state"] == "fail"
    assert "expected shape [1, 2], got [1, 4]" in rows["model wide:1"]["detail"]
    assert rows["torch"]["detail"].startswith(torch.__version__)
    assert rows["kernels"]["state"] in {"ok", "warn"}


def test_a_machine_that_can_serve_passes(kedge: Kedge) -> None:
    exit_code, rows = findings(kedge)
    assert exit_code == 0
    assert {"python", "torch", "kernels", "memory", "cores", "grpc port"} <= rows.keys()
    assert not any(row["state"] == "fail" for row in rows.values())


def test_a_broken_target_and_a_taken_port_fail_with_the_reason(kedge: Kedge, project: Path) -> None:
    (project / "endpoint.yaml").write_text("name: x")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = kedge("doctor", project, *ANY_PORTS, "--http-port", port)
    assert result.exit_code == 1
    assert "endpoint.yaml:1: apiVersion: is required" in result.stdout
    assert f"127.0.0.1:{port}: Address already in use" in result.stdout


def test_a_model_that_is_code_is_tried_only_when_allowed(kedge: Kedge, project: Path) -> None:
    folder = project / "code"
    folder.mkdir()
    (folder / "model.py").write_text(
        "import torch\ndef load(path):\n    return torch.nn.Identity()\n"
    )
    (project / "endpoint.yaml").write_text(ENDPOINT.replace("model.pt", "code"))
    exit_code, rows = findings(kedge, project)
    assert exit_code == 1
    assert "--allow-model-code" in rows["model tiny:1"]["detail"]
    exit_code, rows = findings(kedge, project, "--allow-model-code")
    assert exit_code == 0, rows
    assert "loads and runs on cpu" in rows["model tiny:1"]["detail"]
