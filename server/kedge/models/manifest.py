"""A checked ModelConfig to what the server works with: schema and limits. Pure.

Not here: which configurations are refused (`support.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from kedge import proto
from kedge.core.datatypes import BY_CONFIG_NAME, Datatype
from kedge.core.settings import (
    QUEUE_REQUESTS_MAX,
    QUEUE_ROWS_MAX,
    BatchLimits,
    ExecutionLimits,
    QueueLimits,
)
from kedge.core.values import ModelFormat, ModelRef, ModelSchema, TensorSpec, VersionManifest
from kedge.models.pbtxt import BACKEND_PYTHON

Tensor = proto.ModelInput | proto.ModelOutput

# The naming convention of Triton's pytorch backend: the number is the argument's position.
_POSITION = re.compile(r".*__([0-9]{1,4})", re.DOTALL)


def manifest_of(
    config: proto.ModelConfig,
    version: int,
    path: Path,
    labels: Mapping[str, tuple[str, ...]],
    warnings: Sequence[str],
) -> VersionManifest:
    """The manifest of one version of a checked `config`; path: its model file."""
    batched = config.max_batch_size > 0
    schema = ModelSchema(
        inputs=tuple(map(_spec, _in_argument_order(config.input))),
        outputs=tuple(map(_spec, _in_argument_order(config.output))),
        batched=batched,
        rows_max=config.max_batch_size if batched else 1,
    )
    return VersionManifest(
        ref=ModelRef(config.name, version),
        # As in Triton, whose Python backend has no platform.
        platform=config.platform or config.backend,
        path=path,
        schema=schema,
        batch=_batch_limits(config),
        queue=_queue_limits(config),
        # Deterministic, so that equal configurations are equal bytes and are not loaded again.
        config=config.SerializeToString(deterministic=True),
        format=_format(config),
        execution=ExecutionLimits(devices=_devices(config)),
        labels=labels,
        warnings=tuple(warnings),
    )


def _format(config: proto.ModelConfig) -> ModelFormat:
    """By the runtime and the file's name; the file itself says which of torch's two .pt2 it is."""
    if config.backend == BACKEND_PYTHON:
        return ModelFormat.PYTHON
    is_pt2 = config.default_model_filename.endswith(".pt2")
    return ModelFormat.EXPORTED if is_pt2 else ModelFormat.TORCHSCRIPT


def _devices(config: proto.ModelConfig) -> tuple[str, ...]:
    """One entry per instance. A group on GPUs has its count on each that it lists, or on the first
    one.
    """
    devices: list[str] = []
    for group in config.instance_group:
        on = ["cpu"]
        if group.kind == proto.ModelInstanceGroup.KIND_GPU:
            on = [f"cuda:{number}" for number in group.gpus or [0]]
        devices += [device for device in on for _ in range(group.count)]
    return tuple(devices)


def argument_positions(tensors: Sequence[Tensor]) -> list[int] | None:
    """The argument positions that the names end in; None unless all names have one."""
    matches = [_POSITION.fullmatch(tensor.name) for tensor in tensors]
    found = [int(match[1]) for match in matches if match]
    return found if len(found) == len(matches) else None


def _in_argument_order(tensors: Sequence[Tensor]) -> list[Tensor]:
    """By position where the names have one, else as written."""
    positions = argument_positions(tensors)
    if positions is None:
        return list(tensors)
    return [tensors[positions.index(position)] for position in range(len(tensors))]


def datatype_of(tensor: Tensor) -> Datatype | None:
    """The declared datatype; None if it is missing or a number without a name."""
    if tensor.data_type not in proto.DataType.values():
        return None
    return BY_CONFIG_NAME.get(proto.DataType.Name(tensor.data_type))


def _spec(tensor: Tensor) -> TensorSpec:
    datatype = datatype_of(tensor)
    assert datatype is not None, "checked before"
    return TensorSpec(tensor.name, datatype, tuple(tensor.dims))


def _batch_limits(config: proto.ModelConfig) -> BatchLimits:
    # Without the block Triton runs every request by itself, and so do we: a model may depend on it.
    if config.max_batch_size == 0 or not config.HasField("dynamic_batching"):
        return BatchLimits(rows_max=max(config.max_batch_size, 1), joins_requests=False)
    batching = config.dynamic_batching
    return BatchLimits(
        rows_max=config.max_batch_size,
        delay_us_max=batching.max_queue_delay_microseconds,
        # Where nothing is preferred, completion wrote the full batch; that leaves anyway.
        preferred_rows=tuple(
            sorted(
                size for size in {*batching.preferred_batch_size} if size < config.max_batch_size
            )
        ),
    )


def _queue_limits(config: proto.ModelConfig) -> QueueLimits:
    policy = config.dynamic_batching.default_queue_policy
    # 0 is Triton's "no limit"; Kedge has no unbounded queue.
    requests_max = policy.max_queue_size or QUEUE_REQUESTS_MAX
    return QueueLimits(
        requests_max=requests_max,
        # Neither one full batch nor the configured number of single rows may be kept out by it.
        rows_max=max(QUEUE_ROWS_MAX, requests_max, config.max_batch_size),
        timeout_us=policy.default_timeout_microseconds,
        timeout_override=policy.allow_timeout_override,
    )
