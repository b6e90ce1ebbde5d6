from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from config.conftest import ENDPOINT, Write
from kedge.config.load import load_endpoint
from kedge.config.problems import ConfigError
from kedge.core.datatypes import DATATYPES
from kedge.core.settings import (
    QUEUE_ROWS_MAX,
    BatchLimits,
    Compile,
    ExecutionLimits,
    Placement,
    QueueLimits,
)
from kedge.core.values import ModelFormat, ModelRef, ModelSchema, TensorSpec

SMALL = """\
apiVersion: kedge/v1
kind: Endpoint
name: small
inputs: [{name: x, datatype: INT64, shape: [-1]}]
outputs: [{name: y, datatype: FP32, shape: [-1, 2]}]
versions: {"1": {model: models/1.pt}}
"""


def test_every_version_has_a_manifest_oldest_first(write: Write) -> None:
    text = ENDPOINT.replace('  "1"', '  "10": {model: models/1.pt}\n  "1"')
    path = write(text)
    endpoint = load_endpoint(path, environ={})
    assert [manifest.ref for manifest in endpoint.manifests] == [
        ModelRef("fraud", 1),
        ModelRef("fraud", 2),
        ModelRef("fraud", 10),
    ]
    assert [m.path.relative_to(path.parent) for m in endpoint.manifests] == [
        Path("models/1.pt"),
        Path("models/2.pt"),
        Path("models/1.pt"),
    ]


def test_what_the_file_says_arrives_in_internal_units(write: Write) -> None:
    manifest = load_endpoint(write(ENDPOINT), environ={}).manifests[0]
    assert manifest.schema == ModelSchema(
        inputs=(
            TensorSpec("amount", DATATYPES["FP32"], (3,)),
            TensorSpec("country", DATATYPES["BYTES"], ()),
        ),
        outputs=(TensorSpec("score", DATATYPES["FP32"], ()),),
        batched=True,
        rows_max=8,
    )
    assert manifest.batch == BatchLimits(rows_max=8, delay_us_max=2_000, preferred_rows=(4, 8))
    assert manifest.queue == QueueLimits(
        requests_max=16,
        bytes_max=3 * 2**19,
        timeout_us=50_000,
        timeout_override=True,
    )


def test_length_buckets_arrive_in_the_execution_limits(write: Write) -> None:
    text = SMALL.replace("shape: [-1]}", "shape: [-1, -1]}")
    buckets = "serving: {batching: {length_buckets: [8, 16]}}\n"
    manifest = load_endpoint(write(text + buckets), environ={}).manifests[0]
    assert manifest.execution == ExecutionLimits(length_buckets=(8, 16))
    assert load_endpoint(write(text), environ={}).manifests[0].execution == ExecutionLimits()


def test_a_url_is_not_looked_for_and_its_hash_arrives(write: Write) -> None:
    url = "https://user:pw@host/a/m.pt?sig=x"
    pinned = "{model: " + f'"{url}", sha256: {"a" * 64}' + "}"
    manifest = load_endpoint(
        write(SMALL.replace("{model: models/1.pt}", pinned)), environ={}
    ).manifests[0]
    assert (manifest.url, manifest.sha256) == (url, "a" * 64)
    assert manifest.path == Path("m.pt")
    assert "pw" not in repr(manifest)


def test_what_the_file_leaves_out_is_the_default_of_the_core(write: Write) -> None:
    manifest = load_endpoint(write(SMALL), environ={}).manifests[0]
    assert manifest.batch == BatchLimits()
    assert manifest.queue == QueueLimits()
    assert manifest.execution == ExecutionLimits()
    assert (manifest.format, manifest.is_format_declared) == (ModelFormat.TORCHSCRIPT, False)


def test_how_a_version_is_executed_arrives_in_internal_units(write: Write) -> None:
    text = (
        SMALL
        + """serving:
  placement: workers
  device: [cuda, cpu, "cuda:2"]
  instances: 2
  compile: aotinductor
  execute_timeout: 1.5s
  device_memory: 2GiB
  batching: {buckets: [32, 4, 32], deterministic: true}
"""
    )
    assert load_endpoint(write(text), environ={}).manifests[0].execution == ExecutionLimits(
        placement=Placement.WORKERS,
        devices=("cuda:0", "cuda:0", "cpu", "cpu", "cuda:2", "cuda:2"),
        compile=Compile.AOTINDUCTOR,
        deterministic=True,
        batch_buckets=(4, 32),
        timeout_us=1_500_000,
        device_memory_bytes_max=2 * 2**30,
    )


@pytest.mark.parametrize(
    ("model", "format", "path", "found", "platform"),
    [
        ("m.pt", "", "m.pt", ModelFormat.TORCHSCRIPT, "pytorch_libtorch"),
        ("m.pt2", "", "m.pt2", ModelFormat.EXPORTED, "torch_aoti"),
        ("m.pt2", "aotinductor", "m.pt2", ModelFormat.AOTINDUCTOR, "torch_aoti"),
        ("m", "torch_export", "m", ModelFormat.EXPORTED, "torch_aoti"),
        ("f/model.py", "", "f/model.py", ModelFormat.PYTHON, "python"),
        ("f", "", "f/model.py", ModelFormat.PYTHON, "python"),
        ("v1.2/", "", "v1.2/model.py", ModelFormat.PYTHON, "python"),
    ],
)
def test_the_format_is_guessed_from_the_name_or_declared(
    write: Write, model: str, format: str, path: str, found: ModelFormat, platform: str
) -> None:
    version = f"{{model: {model}, format: {format}}}" if format else f"{{model: {model}}}"
    endpoint = write(SMALL.replace("{model: models/1.pt}", version))
    (manifest,) = load_endpoint(endpoint, check_files=False, environ={}).manifests
    assert (manifest.format, manifest.is_format_declared) == (found, bool(format))
    assert (manifest.path, manifest.platform) == (endpoint.parent / path, platform)


def test_the_model_config_names_devices_and_the_python_backend(write: Write) -> None:
    text = SMALL.replace("models/1.pt", "f") + "serving: {device: [cpu, 'cuda:1'], instances: 3}\n"
    (manifest,) = load_endpoint(write(text), check_files=False, environ={}).manifests
    config = model_config_pb2.ModelConfig.FromString(manifest.config)
    assert (config.platform, config.backend) == ("", "python")
    assert config.default_model_filename == "model.py"
    found = [
        (group.name, group.count, group.kind, [*group.gpus]) for group in config.instance_group
    ]
    kinds = model_config_pb2.ModelInstanceGroup
    assert found == [("small_0", 3, kinds.KIND_CPU, []), ("small_1", 3, kinds.KIND_GPU, [1])]


def test_a_folder_without_a_model_py_is_reported(write: Write) -> None:
    path = write(SMALL.replace("models/1.pt", "models"))
    with pytest.raises(ConfigError, match=r"models/model\.py does not exist"):
        load_endpoint(path, environ={})
    (path.parent / "models" / "model.py").write_text("")
    assert load_endpoint(path, environ={})


def test_a_model_without_batch_dimension_runs_every_request_alone(write: Write) -> None:
    text = SMALL.replace("[-1]", "[4]").replace("[-1, 2]", "[2]")
    manifest = load_endpoint(write(text), environ={}).manifests[0]
    assert manifest.schema.inputs[0].dims == (4,)
    assert (manifest.schema.batched, manifest.schema.rows_max) == (False, 1)
    assert manifest.batch == BatchLimits(rows_max=1, joins_requests=False)


def test_max_batch_size_0_makes_the_first_minus_one_an_ordinary_dimension(write: Write) -> None:
    text = f"{SMALL}serving: {{batching: {{max_batch_size: 0}}}}\n"
    manifest = load_endpoint(write(text), environ={}).manifests[0]
    assert manifest.schema.inputs[0].dims == (-1,)
    assert not manifest.schema.batched


@pytest.mark.parametrize("requests_max", [QUEUE_ROWS_MAX, QUEUE_ROWS_MAX + 1])
def test_the_bound_in_rows_never_undercuts_the_bound_in_requests(
    write: Write, requests_max: int
) -> None:
    text = f"{SMALL}serving: {{queue: {{max_queued_requests: {requests_max}}}}}\n"
    assert load_endpoint(write(text), environ={}).manifests[0].queue.rows_max == requests_max


def test_the_model_config_is_what_triton_would_show(write: Write) -> None:
    manifest = load_endpoint(write(ENDPOINT), environ={}).manifests[1]
    expected = text_format.Parse(
        """
        name: "fraud" platform: "pytorch_libtorch" backend: "pytorch" max_batch_size: 8
        version_policy { specific { versions: 1 versions: 2 } }
        default_model_filename: "2.pt"
        input { name: "amount" data_type: TYPE_FP32 dims: 3 }
        input { name: "country" data_type: TYPE_STRING }
        output { name: "score" data_type: TYPE_FP32 }
        instance_group { name: "fraud" count: 1 kind: KIND_CPU }
        dynamic_batching {
          preferred_batch_size: 4 preferred_batch_size: 8 max_queue_delay_microseconds: 2000
          default_queue_policy {
            default_timeout_microseconds: 50000 allow_timeout_override: true max_queue_size: 16
          }
        }
        """,
        model_config_pb2.ModelConfig(),
    )
    assert model_config_pb2.ModelConfig.FromString(manifest.config) == expected


def test_missing_model_files_are_all_reported_with_their_lines(write: Write) -> None:
    text = ENDPOINT.replace("models/1.pt", "gone.pt").replace("models/2.pt", "folder.pt")
    path = write(text)
    (path.parent / "folder.pt").mkdir()
    with pytest.raises(ConfigError) as error:
        load_endpoint(path, environ={})
    assert str(error.value).splitlines() == [
        f"{path}:10: versions.1.model: {path.parent}/gone.pt does not exist",
        f"{path}:11: versions.2.model: {path.parent}/folder.pt is no file",
    ]
    assert len(load_endpoint(path, check_files=False, environ={}).manifests) == 2


def test_a_model_may_lie_anywhere_on_this_machine(write: Write, tmp_path: Path) -> None:
    absolute = tmp_path / "models" / "1.pt"
    for model in (str(absolute), f"../{tmp_path.name}/models/1.pt"):
        text = SMALL.replace("models/1.pt", model)
        manifest = load_endpoint(write(text), environ={}).manifests[0]
        assert manifest.path.samefile(absolute)


def test_a_file_that_is_not_there_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read: No such file"):
        load_endpoint(tmp_path / "gone.yaml")
