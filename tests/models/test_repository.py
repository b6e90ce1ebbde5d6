"""Model repositories on disk to manifests: versions, schema, limits, refusals, confinement."""

from __future__ import annotations

from pathlib import Path

import pytest
from tritonclient.grpc import model_config_pb2

from kedge.core.datatypes import DATATYPES
from kedge.core.errors import RepositoryFailed
from kedge.core.settings import QUEUE_REQUESTS_MAX, QUEUE_ROWS_MAX, BatchLimits
from kedge.core.values import VersionManifest
from kedge.models.repository import LABELS_BYTES_MAX, RepositoryModel, sources_of_repository
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


def versions_of(root: Path, policy: str, present: list[int | str]) -> list[int]:
    model = RepositoryModel(write_model(root, "m", CONFIG + policy, present))
    return [manifest.ref.version for manifest in model.manifests(None)]


# What a repository holds


def test_every_directory_is_a_model_except_hidden_and_unprintable_ones(tmp_path: Path) -> None:
    for name in ("b", "a", ".git", "line\nbreak"):
        write_model(tmp_path, name)
    (tmp_path / "README.md").write_text("not a model")
    (tmp_path / "empty").mkdir()
    assert [source.name for source in sources_of_repository(tmp_path)] == ["a", "b", "empty"]


def test_a_repository_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    with pytest.raises(RepositoryFailed, match=r"gone: cannot be listed: No such file"):
        sources_of_repository(tmp_path / "gone")


def test_a_directory_without_configuration_names_the_missing_file(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(RepositoryFailed, match=r"m/config\.pbtxt: cannot be read: No such file"):
        RepositoryModel(tmp_path / "m").manifests(None)


# Versions


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", [10]),
        ("version_policy { latest { num_versions: 1 } }", [10]),
        ("version_policy { latest { num_versions: 2 } }", [3, 10]),
        ("version_policy { latest { num_versions: 9 } }", [1, 3, 10]),
        ("version_policy { all {} }", [1, 3, 10]),
        ("version_policy { specific { versions: [ 3, 1 ] } }", [1, 3]),
        ("version_policy { specific { versions: [ 3, 7 ] } }", [3]),
    ],
)
def test_the_version_policy_selects_by_number(
    tmp_path: Path, policy: str, served: list[int]
) -> None:
    assert versions_of(tmp_path, policy, [3, 10, 1]) == served


def test_only_plain_numbers_are_versions(tmp_path: Path) -> None:
    present: list[int | str] = [2, "0", "01", "-1", "1.5", "latest", "²", "1" + 18 * "0"]
    assert versions_of(tmp_path, "version_policy { all {} }", present) == [2]


def test_a_specific_version_that_is_absent_is_warned_about(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, CONFIG + "version_policy { specific { versions: [ 1, 7 ] } }")
    assert manifest.warnings == ("version_policy: there is no directory for version 7",)


@pytest.mark.parametrize(
    ("policy", "present"),
    [
        ("", []),
        ("version_policy { specific { versions: 7 } }", [1]),
        ("version_policy { latest { num_versions: 0 } }", [1]),
    ],
)
def test_a_policy_that_leaves_nothing_is_refused(
    tmp_path: Path, policy: str, present: list[int]
) -> None:
    with pytest.raises(RepositoryFailed, match="at least one version must be available under"):
        versions_of(tmp_path, policy, [*present])


# Schema and limits


def test_a_batched_model_has_its_dims_without_the_batch(tmp_path: Path) -> None:
    manifest = manifest_of(
        tmp_path,
        'max_batch_size: 32 input { name: "a" data_type: TYPE_STRING dims: [ -1 ] }'
        'output { name: "b" data_type: TYPE_BF16 dims: [ 2, 3 ] }',
    )
    (a,), (b,) = manifest.schema.inputs, manifest.schema.outputs
    assert (a.name, a.datatype, a.dims) == ("a", DATATYPES["BYTES"], (-1,))
    assert (b.name, b.datatype, b.dims) == ("b", DATATYPES["BF16"], (2, 3))
    assert manifest.schema.batched
    assert manifest.schema.rows_max == 32
    assert manifest.path == tmp_path / "m" / "1" / "model.pt"
    assert manifest.platform == "pytorch_libtorch"


def test_without_max_batch_size_shapes_are_whole_and_requests_run_alone(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, TENSORS)
    assert not manifest.schema.batched
    assert manifest.schema.rows_max == 1
    assert manifest.batch == BatchLimits(rows_max=1, joins_requests=False)


def test_without_dynamic_batching_requests_run_alone(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, "max_batch_size: 8" + TENSORS)
    assert manifest.batch == BatchLimits(rows_max=8, joins_requests=False)


def test_dynamic_batching_gives_the_batch_limits(tmp_path: Path) -> None:
    manifest = manifest_of(
        tmp_path,
        "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 300"
        " preferred_batch_size: [ 4, 2, 8 ] }" + TENSORS,
    )
    assert manifest.batch == BatchLimits(rows_max=8, delay_us_max=300, preferred_rows=(2, 4))


def test_the_queue_policy_gives_the_queue_limits(tmp_path: Path) -> None:
    manifest = manifest_of(
        tmp_path,
        "max_batch_size: 8 dynamic_batching { default_queue_policy { max_queue_size: 100000"
        " default_timeout_microseconds: 5000 allow_timeout_override: true } }" + TENSORS,
    )
    queue = manifest.queue
    assert (queue.requests_max, queue.rows_max) == (100_000, 100_000)
    assert (queue.timeout_us, queue.timeout_override) == (5_000, True)


def test_no_queue_is_unbounded(tmp_path: Path) -> None:
    queue = manifest_of(tmp_path, CONFIG).queue
    assert (queue.requests_max, queue.rows_max) == (QUEUE_REQUESTS_MAX, QUEUE_ROWS_MAX)


def test_one_full_batch_always_fits_the_queue(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, f"max_batch_size: {QUEUE_ROWS_MAX + 1}" + TENSORS)
    assert manifest.queue.rows_max == QUEUE_ROWS_MAX + 1


def test_positions_in_names_give_the_argument_order(tmp_path: Path) -> None:
    tensors = "".join(
        f'{kind} {{ name: "{name}" data_type: TYPE_FP32 dims: [ 1 ] }}'
        for kind, name in [
            ("input", "B__1"),
            ("input", "A__0"),
            ("output", "o__1"),
            ("output", "p__0"),
        ]
    )
    schema = manifest_of(tmp_path, tensors).schema
    assert [spec.name for spec in schema.inputs] == ["A__0", "B__1"]
    assert [spec.name for spec in schema.outputs] == ["p__0", "o__1"]


def test_names_without_positions_keep_the_written_order(tmp_path: Path) -> None:
    tensors = 'input { name: "b__1" data_type: TYPE_FP32 dims: [ 1 ] }' + TENSORS
    assert [spec.name for spec in manifest_of(tmp_path, tensors).schema.inputs] == ["b__1", "x"]


def test_the_manifest_carries_the_completed_configuration(tmp_path: Path) -> None:
    config = model_config_pb2.ModelConfig.FromString(manifest_of(tmp_path, CONFIG).config)
    assert config.name == "m"
    assert config.version_policy.latest.num_versions == 1


def test_equal_files_give_equal_manifests(tmp_path: Path) -> None:
    tags = 'metric_tags { key: "a" value: "1" } metric_tags { key: "b" value: "2" }'
    model = RepositoryModel(write_model(tmp_path, "m", CONFIG + tags))
    assert model.manifests(None) == model.manifests(None)


def test_an_override_replaces_the_file_whole(tmp_path: Path) -> None:
    model = RepositoryModel(write_model(tmp_path, "m", "this is no configuration"))
    tensor = '[{"name": "z", "data_type": "TYPE_INT64", "dims": [1]}]'
    override = f'{{"max_batch_size": 2, "input": {tensor}, "output": {tensor}}}'
    (manifest,) = model.manifests(override)
    assert manifest.schema.inputs[0].name == "z"
    assert manifest.schema.rows_max == 2


# Labels


def test_labels_are_the_lines_of_the_label_file(tmp_path: Path) -> None:
    directory = write_model(
        tmp_path, "m", CONFIG.replace('name: "y"', 'name: "y" label_filename: "labels.txt"')
    )
    (directory / "labels.txt").write_bytes("on time\r\n\nlate ü\u2028\n".encode())
    (manifest,) = RepositoryModel(directory).manifests(None)
    assert manifest.labels == {"y": ("on time", "", "late ü\u2028")}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff", "expected UTF-8"),
        (b"a" * (LABELS_BYTES_MAX + 1), "expected at most"),
    ],
)
def test_a_label_file_that_cannot_be_used_is_refused(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    config = CONFIG.replace('name: "y"', 'name: "y" label_filename: "labels.txt"')
    directory = write_model(tmp_path, "m", config)
    if content is not None:
        (directory / "labels.txt").write_bytes(content)
    with pytest.raises(RepositoryFailed) as raised:
        RepositoryModel(directory).manifests(None)
    assert str(directory / "labels.txt") in str(raised.value)
    assert reason in str(raised.value)


# Refusals and warnings


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
        ("instance_group { kind: KIND_GPU }", "instance_group[0].kind: not in this version"),
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
        'backend: "python"',
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
        ("instance_group { count: 3 }", "instance_group asks for 3 instances"),
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


def test_an_ordinary_configuration_has_no_warnings(tmp_path: Path) -> None:
    assert manifest_of(tmp_path, CONFIG).warnings == ()
