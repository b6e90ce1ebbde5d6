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


def test_the_project_trains_validates_and_loads(kedge: Kedge, project: Path) -> None:
    assert {path.name for path in project.iterdir()} == FILES
    before = kedge("validate", project)
    assert before.exit_code == 1
    assert "models/1/model.pt does not exist" in before.stderr
    trained = subprocess.run(
        [sys.executable, "train.py"], cwd=project, capture_output=True, text=True, check=True
    )
    accuracy = float(trained.stdout.split()[1].rstrip(","))
    assert accuracy > 0.95
    assert kedge("validate", project).exit_code == 0
    ports = ("--grpc-port", 0, "--http-port", 0, "--metrics-port", 0)
    rows = json.loads(kedge("doctor", project, *ports, "-o", "json").stdout)
    assert [row["state"] for row in rows if row["check"] == "model ring:1"] == ["ok"]


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
