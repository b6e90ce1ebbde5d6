"""Runs verbs in this process; the server they call is the client tests' small one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from client.conftest import server  # noqa: F401 - a fixture
from kedge.cli import main

Kedge = Callable[..., Result]

ENDPOINT = """\
apiVersion: kedge/v1
kind: Endpoint
name: tiny
inputs: [{name: x, datatype: FP32, shape: [-1, 2]}]
outputs: [{name: y, datatype: FP32, shape: [-1, 2]}]
versions: {"1": {model: model.pt}}
"""


@pytest.fixture
def kedge() -> Kedge:
    """`kedge(*arguments)` runs a verb; its exit code, stdout and stderr."""

    def run(*arguments: object, stdin: str = "") -> Result:
        return CliRunner().invoke(main, list(map(str, arguments)), input=stdin)

    return run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with endpoint.yaml and a model file that is no model."""
    (tmp_path / "endpoint.yaml").write_text(ENDPOINT)
    (tmp_path / "model.pt").write_bytes(b"no TorchScript")
    return tmp_path
