"""Which fields of a configuration are refused, and which are accepted with a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from kedge.core.errors import RepositoryFailed
from kedge.core.settings import ExecutionLimits
from kedge.core.values import ModelFormat, VersionManifest
from kedge.models.repository import RepositoryModel, sources_of_repository
from support.repositories import CONFIG, write_model

TENSORS = """
input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] }
"""


def manifest_of(root: Path, config: str) -> VersionManifest:
    (manifest,) = RepositoryModel(write_model(root, "m", config)).manifests(None)
    return manifest


def refusal_of(root: Path, config: str) -> str:
    with pytest.raises(RepositoryFailed) as raised:
        RepositoryModel(write_model(root, "m", config)).manifests(None)
    return str(raised.value)


@pytest.mark.parametrize("filename", ["../other/1/model.pt", "/etc/passwd", "a/../../b", "a\\000b"])
@pytest.mark.parametrize("field", ["default_model_filename", "label_filename"])
def test_files_outside_the_model_directory_are_refused(
    tmp_path: Path, field: str, filename: str
) -> None:
    if field == "default_model_filename":
        config = CONFIG + f'default_model_filename: "{filename}"'
    else:
        config = CONFIG.replace('name: "y"', f'name: "y" label_filename: "{filename}"')
    assert f"{field}: expected a relative path without '..'" in refusal_of(tmp_path, config)


def test_a_model_directory_may_be_a_link(tmp_path: Path) -> None:
    write_model(tmp_path / "store", "m")
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "m").symlink_to(tmp_path / "store" / "m")
    (source,) = sources_of_repository(tmp_path / "repository")
    assert source.manifests(None)[0].path.read_text() == "version 1"


@pytest.mark.parametrize(
    ("addition", "field"),
    [
        ('name: "other"', "name: expected 'm', the directory's name, got 'other'"),
        ("max_batch_size: -1", "max_batch_size: expected at least 0, got -1"),
        ("sequence_batching {}", "sequence_batching: not in this version"),
        ("ensemble_scheduling {}", "ensemble_scheduling: not in this version"),
        ('model_operations { op_library_filename: "a.so" }', "model_operations: not in this"),
        ('model_repository_agents { agents { name: "checksum" } }', "model_repository_agents: not"),
        ("batch_input { kind: BATCH_ELEMENT_COUNT }", "batch_input: not in this version"),
        ("model_transaction_policy { decoupled: true }", "decoupled: not in this version"),
        ("instance_group { kind: KIND_GPU gpus: [ 1, 1 ] }", "gpus: expected different numbers"),
        ("instance_group { kind: KIND_GPU gpus: -1 }", "gpus: expected different numbers from 0"),
        (
            "instance_group { count: 257 }",
            "instance_group: expected at most 256 instances, got 257",
        ),
        ("instance_group { kind: KIND_MODEL }", "instance_group[0].kind: not in this version"),
        ("instance_group { kind: 77 }", "instance_group[0].kind: not in this version"),
        ("instance_group { passive: true }", "instance_group[0].passive: not in this version"),
        ("dynamic_batching { preferred_batch_size: 9 }", "expected 1 to max_batch_size 8, got 9"),
        ("dynamic_batching { preferred_batch_size: 0 }", "expected 1 to max_batch_size 8, got 0"),
        (
            "dynamic_batching { max_queue_delay_microseconds: 86400000001 }",
            "max_queue_delay_microseconds: expected at most 86400000000",
        ),
        (
            "dynamic_batching { default_queue_policy { default_timeout_microseconds: 1000000000000"
            " } }",
            "default_timeout_microseconds: expected at most 86400000000",
        ),
        (
            "dynamic_batching { default_queue_policy { timeout_action: DELAY } }",
            "timeout_action: DELAY is not in this version",
        ),
        ("input { data_type: TYPE_FP32 dims: 1 }", "input[1] '': name: missing"),
        ('input { name: "x" data_type: TYPE_FP32 dims: 1 }', "input[1] 'x': name: used twice"),
        ('input { name: "z" dims: 1 }', "input[1] 'z': data_type: missing"),
        ('input { name: "z" data_type: 77 dims: 1 }', "input[1] 'z': data_type: missing"),
        ('input { name: "z" data_type: TYPE_FP32 }', "input[1] 'z': dims: missing"),
        ('input { name: "z" data_type: TYPE_FP32 dims: 0 }', "of at least 1 or -1, got [0]"),
        ('input { name: "z" data_type: TYPE_FP32 dims: -2 }', "of at least 1 or -1, got [-2]"),
        ('input { name: "z" reshape {} }', "input[1] 'z': reshape: not in this version"),
        ('input { name: "z" optional: true }', "input[1] 'z': optional: not in this version"),
        ('input { name: "z" allow_ragged_batch: true }', "allow_ragged_batch: not in this version"),
        ('output { name: "z" is_shape_tensor: true }', "output[1] 'z': is_shape_tensor: not in"),
    ],
)
def test_what_cannot_be_served_as_written_is_refused_by_field(
    tmp_path: Path, addition: str, field: str
) -> None:
    # Text format refuses a scalar that is given twice; the dynamic_batching block merges.
    base = "" if "max_batch_size: -1" in addition else "max_batch_size: 8"
    refusal = refusal_of(tmp_path, base + TENSORS + addition)
    assert refusal.startswith(f"{tmp_path}/m/config.pbtxt: ")
    assert field in refusal


@pytest.mark.parametrize(
    "runtime",
    [
        'platform: "onnxruntime_onnx"',
        'backend: "onnxruntime"',
        'platform: "torch_aoti" backend: "python"',
        'platform: "ensemble"',
        'platform: "pytorch_libtorch" backend: "python"',
    ],
)
def test_other_runtimes_are_refused(tmp_path: Path, runtime: str) -> None:
    assert "expected 'pytorch_libtorch', 'pytorch'" in refusal_of(tmp_path, runtime + TENSORS)


def test_inputs_and_outputs_must_be_declared(tmp_path: Path) -> None:
    refusal = refusal_of(tmp_path, "max_batch_size: 8")
    assert "input: none is declared" in refusal
    assert "output: none is declared" in refusal


@pytest.mark.parametrize("names", [("a__0", "b__2"), ("a__1", "b__1"), ("a__1", "b__2")])
def test_positions_must_be_complete(tmp_path: Path, names: tuple[str, str]) -> None:
    inputs = "".join(f'input {{ name: "{n}" data_type: TYPE_FP32 dims: 1 }}' for n in names)
    refusal = refusal_of(tmp_path, inputs + 'output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] }')
    assert "input: expected names that end in __0 to __1, each once" in refusal


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    refusal = refusal_of(tmp_path, 'name: "other" max_batch_size: -1' + TENSORS)
    assert len(refusal.splitlines()) == 2


@pytest.mark.parametrize(
    ("addition", "warning"),
    [
        ("optimization { priority: PRIORITY_MAX }", "optimization does nothing"),
        ('model_warmup { name: "w" batch_size: 1 }', "model_warmup does nothing"),
        ("response_cache { enable: true }", "response_cache does nothing"),
        ('parameters { key: "INFERENCE_MODE" value { string_value: "true" } }', "parameters does"),
        ('instance_group { kind: KIND_CPU host_policy: "p" }', "instance_group.host_policy does"),
        ("instance_group { kind: KIND_CPU rate_limiter {} }", "instance_group.rate_limiter does"),
        (
            "dynamic_batching { priority_levels: 2 default_priority_level: 1 }",
            "dynamic_batching.priority_levels does nothing",
        ),
    ],
)
def test_what_only_tunes_triton_is_accepted_with_a_warning(
    tmp_path: Path, addition: str, warning: str
) -> None:
    (found,) = manifest_of(tmp_path, "max_batch_size: 8" + TENSORS + addition).warnings
    assert found.startswith(warning)
    assert "not in this version" in found


def test_dynamic_batching_without_a_batch_is_warned_about(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, TENSORS + "dynamic_batching {}")
    assert manifest.warnings == ("dynamic_batching does nothing while max_batch_size is 0",)
    assert not manifest.batch.joins_requests


def test_a_python_model_takes_parameters_but_brings_no_environment(tmp_path: Path) -> None:
    parameter = 'parameters { key: "%s" value { string_value: "1" } }'
    config = 'backend: "python"' + TENSORS + parameter % "threshold"
    assert manifest_of(tmp_path, config).warnings == ()
    (found,) = manifest_of(tmp_path, config + parameter % "EXECUTION_ENV_PATH").warnings
    assert found.startswith("parameters.EXECUTION_ENV_PATH does nothing not in this version")


def test_an_ordinary_configuration_has_no_warnings(tmp_path: Path) -> None:
    assert manifest_of(tmp_path, CONFIG).warnings == ()


@pytest.mark.parametrize(
    ("runtime", "filename", "found", "platform"),
    [
        ("", "model.pt", ModelFormat.TORCHSCRIPT, "pytorch_libtorch"),
        ('default_model_filename: "a.pt2"', "a.pt2", ModelFormat.EXPORTED, "pytorch_libtorch"),
        ('platform: "torch_aoti"', "model.pt2", ModelFormat.EXPORTED, "torch_aoti"),
        ('backend: "python"', "model.py", ModelFormat.PYTHON, "python"),
    ],
)
def test_each_runtime_has_its_file_as_in_triton(
    tmp_path: Path, runtime: str, filename: str, found: ModelFormat, platform: str
) -> None:
    manifest = manifest_of(tmp_path, runtime + TENSORS)
    assert manifest.path == tmp_path / "m" / "1" / filename
    assert (manifest.format, manifest.platform) == (found, platform)
    assert not manifest.is_format_declared
    assert manifest.warnings == ()


@pytest.mark.parametrize(
    ("groups", "devices", "warnings"),
    [
        ("", ("cpu",), 0),
        ("instance_group { count: 3 }", ("cpu",) * 3, 0),
        (
            "instance_group { kind: KIND_GPU count: 2 gpus: [ 0, 3 ] }",
            ("cuda:0", "cuda:0", "cuda:3", "cuda:3"),
            0,
        ),
        (
            "instance_group { kind: KIND_GPU } instance_group { kind: KIND_CPU count: 2 }",
            ("cuda:0", "cpu", "cpu"),
            1,
        ),
        ("instance_group { kind: KIND_CPU gpus: 1 }", ("cpu",), 1),
    ],
)
def test_instance_groups_become_devices(
    tmp_path: Path, groups: str, devices: tuple[str, ...], warnings: int
) -> None:
    manifest = manifest_of(tmp_path, TENSORS + groups)
    assert manifest.execution == ExecutionLimits(devices=devices)
    assert len(manifest.warnings) == warnings
