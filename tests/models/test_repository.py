"""Model repositories on disk to manifests: versions, schema, limits, labels."""

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
