from __future__ import annotations

import json
from pathlib import Path

import yaml

from cli.conftest import ENDPOINT, Kedge

CONFIG = """\
platform: "pytorch_libtorch"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 2 }
output { name: "y" data_type: TYPE_FP32 dims: 2 }
"""


def repository(root: Path, *names: str, config: str = CONFIG) -> Path:
    for name in names:
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(config)
        (root / name / "1" / "model.pt").write_bytes(b"")
    return root


def test_right_targets_of_both_kinds_pass(kedge: Kedge, project: Path, tmp_path: Path) -> None:
    models = repository(tmp_path / "models", "a", "b")
    result = kedge("validate", project / "endpoint.yaml", models, "-o", "json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["problems"] == []
    assert [(row["model"], row["version"]) for row in report["versions"]] == [
        ("tiny", 1),
        ("a", 1),
        ("b", 1),
    ]
    assert yaml.safe_load(kedge("validate", project, "-o", "yaml").stdout)["problems"] == []


def test_all_mistakes_of_all_targets_are_told_and_fail(
    kedge: Kedge, project: Path, tmp_path: Path
) -> None:
    broken = project / "endpoint.yaml"
    broken.write_text(ENDPOINT.replace("name: tiny", "nmae: tiny"))
    models = repository(tmp_path / "models", "ok")
    repository(models, "bad", config=CONFIG.replace("TYPE_FP32", "TYPE_FP31"))
    (models / "ok" / "1" / "model.pt").unlink()
    result = kedge("validate", broken, models, tmp_path / "gone")
    assert result.exit_code == 1
    assert f"{broken}:3: nmae: unknown key; did you mean 'name'?" in result.stderr
    assert "TYPE_FP31" in result.stderr
    assert f"ok:1: {models}/ok/1/model.pt does not exist" in result.stderr
    assert f"{tmp_path}/gone: does not exist" in result.stderr


def test_the_problems_are_data_too(kedge: Kedge, project: Path) -> None:
    (project / "model.pt").unlink()
    result = kedge("validate", project, "-o", "json")
    assert result.exit_code == 1
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem == {
        "where": str(project / "endpoint.yaml"),
        "line": 6,
        "key": "versions.1.model",
        "message": f"{project}/model.pt does not exist",
    }


def test_one_name_in_two_targets_is_a_problem(kedge: Kedge, project: Path) -> None:
    models = repository(project / "models", "tiny")
    result = kedge("validate", project / "endpoint.yaml", models)
    assert result.exit_code == 1
    assert "tiny: 2 of the targets have a model of this name" in result.stderr


def test_what_a_configuration_asks_for_in_vain_is_shown(kedge: Kedge, tmp_path: Path) -> None:
    config = CONFIG + 'model_warmup { name: "w" batch_size: 1 }\n'
    result = kedge("validate", repository(tmp_path, "a", config=config), "-o", "json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["versions"]
    assert any("model_warmup" in warning for warning in row["warnings"])


def test_without_a_target_it_is_wrong_usage(kedge: Kedge) -> None:
    assert kedge("validate").exit_code == 2
