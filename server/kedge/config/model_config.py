"""An endpoint as Triton's ModelConfig, which clients ask for with the ModelConfig call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kedge import proto
from kedge.core.values import ModelFormat, VersionManifest

BACKEND = "pytorch"
PYTHON_BACKEND = "python"


def triton_config(manifest: VersionManifest, versions: Sequence[int]) -> bytes:
    """The serialized ModelConfig of a model whose `versions` are all served like `manifest`.

    Every default is filled in.
    """
    name, schema = manifest.ref.name, manifest.schema
    batch, queue = manifest.batch, manifest.queue
    is_python = manifest.format is ModelFormat.PYTHON
    config = proto.ModelConfig(
        name=name,
        # Triton's Python backend has no platform in its configuration.
        platform="" if is_python else manifest.platform,
        backend=PYTHON_BACKEND if is_python else BACKEND,
        max_batch_size=schema.rows_max if schema.batched else 0,
        default_model_filename=manifest.path.name,
        version_policy={"specific": {"versions": versions}},
        instance_group=_instance_groups(name, manifest.execution.devices),
        input=[
            {"name": spec.name, "data_type": spec.datatype.config_name, "dims": spec.dims}
            for spec in schema.inputs
        ],
        output=[
            {"name": spec.name, "data_type": spec.datatype.config_name, "dims": spec.dims}
            for spec in schema.outputs
        ],
    )
    if schema.batched:
        policy = {
            "default_timeout_microseconds": queue.timeout_us,
            "allow_timeout_override": queue.timeout_override,
            "max_queue_size": queue.requests_max,
        }
        config.dynamic_batching.CopyFrom(
            proto.ModelDynamicBatching(
                preferred_batch_size=batch.preferred_rows,
                max_queue_delay_microseconds=batch.delay_us_max,
                default_queue_policy=policy,
            )
        )
    # Deterministic, so that equal endpoints are equal bytes and are not loaded again.
    return config.SerializeToString(deterministic=True)


def _instance_groups(name: str, devices: Sequence[str]) -> list[dict[str, object]]:
    """One group per device; Triton numbers their names when there are several."""
    counts = Counter(devices)
    return [
        {
            "name": name if len(counts) == 1 else f"{name}_{number}",
            "count": count,
            "kind": "KIND_CPU" if device == "cpu" else "KIND_GPU",
            "gpus": [] if device == "cpu" else [int(device.removeprefix("cuda:"))],
        }
        for number, (device, count) in enumerate(counts.items())
    ]
