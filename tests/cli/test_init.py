from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.conftest import Kedge

FILES = {"README.md", "endpoint.yaml", "train.py"}


@pytest.fixture
def project(kedge: Kedge, tmp_path: Path) -> Path:
    folder = tmp_path / "new" / "ring"
    assert kedge("init", folder).exit_code == 0
    return folder


@pytest.fixture
def trained(project: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=project, capture_output=True, text=True, check=True
    )
    accuracy = float(done.stdout.split()[1].rstrip(","))
    assert accuracy > 0.95
    return project


def test_the_project_validates_once_it_is_trained(kedge: Kedge, project: Path) -> None:
    assert {path.name for path in project.iterdir()} == FILES
    result = kedge("validate", project)
    assert result.exit_code == 1
    assert result.stderr.count("does not exist") == 1
    (project / "models" / "1").mkdir(parents=True)
    (project / "models" / "1" / "model.pt").write_bytes(b"")
    assert kedge("validate", project).exit_code == 0


def test_the_project_trains_and_serves_as_its_readme_says(kedge: Kedge, trained: Path) -> None:
    ports = ("--grpc-port", "0", "--http-port", "0", "--metrics-port", "0")
    command = [sys.executable, "-m", "kedge.cli", "serve", "endpoint.yaml", *ports]
    with subprocess.Popen(command, cwd=trained, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            ready = server.stdout.readline().split()
            assert ready[0] == "ready"
            address = ready[1].removeprefix("grpc=")
            points = '{"point": [[0.7, 0.1], [0.0, 0.0]]}'
            answer = kedge("predict", "ring", "--address", address, "--input", points, "-o", "json")
            assert answer.exit_code == 0, answer.output
            inside, outside = json.loads(answer.stdout)["outputs"]["probability"]
            assert inside > 0.5 > outside
            assert kedge("bench", "ring", "--address", address, "--seconds", 0.2).exit_code == 0
        finally:
            server.terminate()
        assert server.wait(timeout=30) == 0


def test_existing_files_are_never_touched(kedge: Kedge, project: Path) -> None:
    (project / "train.py").write_text("mine")
    (project / "endpoint.yaml").unlink()
    result = kedge("init", project)
    assert result.exit_code == 1
    assert "already has train.py, README.md; nothing was written" in result.stderr
    assert (project / "train.py").read_text() == "mine"
    assert not (project / "endpoint.yaml").exists()


def test_a_folder_that_cannot_be_made_is_told(kedge: Kedge, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = kedge("init", tmp_path / "file" / "below")
    assert result.exit_code == 1
    assert "cannot write to" in result.stderr


def test_here_is_the_default(kedge: Kedge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = kedge("init")
    assert result.exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert "cd " not in result.stdout
