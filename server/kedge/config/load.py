"""An endpoint file to core values: one immutable manifest per version."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from kedge.config.check import check
from kedge.config.document import DOCUMENT_BYTES_MAX, Document, parse_document
from kedge.config.endpoint import AUTO, EndpointFile, ModelVersion, Serving, Tensor
from kedge.config.model_config import triton_config
from kedge.config.overrides import override
from kedge.config.problems import ConfigError, Problem
from kedge.core.datatypes import DATATYPES
from kedge.core.settings import (
    QUEUE_ROWS_MAX,
    BatchLimits,
    Compile,
    ExecutionLimits,
    Placement,
    QueueLimits,
)
from kedge.core.urls import is_url, name_of
from kedge.core.values import ModelFormat, ModelRef, ModelSchema, TensorSpec, VersionManifest

# Triton's names for what runs a format.
PLATFORMS = {
    ModelFormat.TORCHSCRIPT: "pytorch_libtorch",
    ModelFormat.EXPORTED: "torch_aoti",
    ModelFormat.AOTINDUCTOR: "torch_aoti",
    ModelFormat.PYTHON: "python",
}
MODEL_PY = "model.py"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A checked endpoint file: the model's name and one manifest per version, oldest first."""

    name: str
    path: Path
    manifests: tuple[VersionManifest, ...]


def load_endpoint(
    path: Path, *, check_files: bool = True, environ: Mapping[str, str] = os.environ
) -> Endpoint:
    """The endpoint that `path` describes, with `environ`'s overrides.

    check_files: whether the model files must exist. Raises ConfigError with every mistake found.
    """
    document = override(parse_document(read_file(path), str(path)), environ)
    endpoint = check(document)
    if check_files:
        _check_models(document, endpoint, path)
    return Endpoint(endpoint.name, path, _manifests(endpoint, path))


def read_file(path: Path) -> bytes:
    """The text of an endpoint file, cut one byte after the limit. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            return file.read(DOCUMENT_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(
            [Problem(str(path), 0, "", f"cannot be read: {error.strerror}")]
        ) from None


def _check_models(document: Document, endpoint: EndpointFile, path: Path) -> None:
    problems = []
    for number, version in endpoint.versions.items():
        if is_url(version.model):
            continue  # asked when it is loaded, not before
        model = model_path(path, version)
        if not model.is_file():
            what = "is no file" if model.exists() else "does not exist"
            problems.append(document.problem(("versions", number, "model"), f"{model} {what}"))
    if problems:
        raise ConfigError(problems)


def model_path(endpoint_file: Path, version: ModelVersion) -> Path:
    """Where a version's model lies: relative paths start at the endpoint file's folder. Of a URL,
    only its name.

    They may lead out of it, for whoever writes the file could as well give an absolute path. Of a
    Python model it is the `model.py` of the folder that is named.
    """
    if is_url(version.model):
        return Path(name_of(version.model))
    path = endpoint_file.parent / version.model
    is_folder = model_format(version) is ModelFormat.PYTHON and path.suffix != ".py"
    return path / MODEL_PY if is_folder else path


def model_format(version: ModelVersion) -> ModelFormat:
    """As declared, or as the name has it; what is in the file is found out when it is loaded."""
    if version.format != AUTO:
        return ModelFormat(version.format)
    name = name_of(version.model) if is_url(version.model) else version.model
    suffix = "" if name.endswith("/") else PurePosixPath(name).suffix
    return {
        "": ModelFormat.PYTHON,
        ".py": ModelFormat.PYTHON,
        ".pt2": ModelFormat.EXPORTED,
    }.get(suffix, ModelFormat.TORCHSCRIPT)


def _manifests(endpoint: EndpointFile, path: Path) -> tuple[VersionManifest, ...]:
    schema = _schema(endpoint)
    batch = _batch_limits(endpoint.serving, schema)
    queue = _queue_limits(endpoint.serving, schema)
    execution = _execution_limits(endpoint.serving)
    versions = sorted(int(number) for number in endpoint.versions)

    def manifest(number: int) -> VersionManifest:
        version = endpoint.versions[str(number)]
        found = model_format(version)
        return VersionManifest(
            ref=ModelRef(endpoint.name, number),
            platform=PLATFORMS[found],
            path=model_path(path, version),
            schema=schema,
            batch=batch,
            queue=queue,
            config=b"",
            format=found,
            is_format_declared=version.format != AUTO,
            execution=execution,
            url=version.model if is_url(version.model) else "",
            sha256=version.sha256,
        )

    manifests = [manifest(number) for number in versions]
    return tuple(replace(m, config=triton_config(m, versions)) for m in manifests)


def _url(model: str) -> str:
    return model if is_url(model) else ""


def _schema(endpoint: EndpointFile) -> ModelSchema:
    rows_max = endpoint.serving.batching.max_batch_size
    # `check` has seen to it that either all shapes start with the batch or none does.
    batched = rows_max > 0 and endpoint.inputs[0].shape[:1] == [-1]

    def spec(tensor: Tensor) -> TensorSpec:
        dims = tensor.shape[1:] if batched else tensor.shape
        return TensorSpec(tensor.name, DATATYPES[tensor.datatype], tuple(dims))

    return ModelSchema(
        inputs=tuple(map(spec, endpoint.inputs)),
        outputs=tuple(map(spec, endpoint.outputs)),
        batched=batched,
        rows_max=rows_max if batched else 1,
    )


def _batch_limits(serving: Serving, schema: ModelSchema) -> BatchLimits:
    if not schema.batched:
        return BatchLimits(rows_max=1, joins_requests=False)
    return BatchLimits(
        rows_max=schema.rows_max,
        delay_us_max=serving.batching.max_queue_delay,
        preferred_rows=tuple(sorted(set(serving.batching.preferred_batch_size))),
    )


def _execution_limits(serving: Serving) -> ExecutionLimits:
    return ExecutionLimits(
        placement=Placement(serving.placement),
        devices=tuple(device for device in serving.device for _ in range(serving.instances)),
        compile=Compile(serving.compile),
        deterministic=serving.batching.deterministic,
        batch_buckets=tuple(sorted(set(serving.batching.buckets))),
        length_buckets=tuple(serving.batching.length_buckets),
        timeout_us=serving.execute_timeout,
        device_memory_bytes_max=serving.device_memory,
    )


def _queue_limits(serving: Serving, schema: ModelSchema) -> QueueLimits:
    requests_max = serving.queue.max_queued_requests
    return QueueLimits(
        requests_max=requests_max,
        # Neither one full batch nor that many requests of one row may be kept out by it.
        rows_max=max(QUEUE_ROWS_MAX, requests_max, schema.rows_max),
        bytes_max=serving.queue.max_queued_bytes,
        timeout_us=serving.queue.timeout,
        timeout_override=serving.queue.allow_timeout_override,
    )
