"""An endpoint as Triton's ModelConfig, which clients ask for with the ModelConfig call."""

from __future__ import annotations

from collections.abc import Sequence

from kedge import proto
from kedge.core.values import VersionManifest

BACKEND = "pytorch"


def triton_config(manifest: VersionManifest, versions: Sequence[int]) -> bytes:
    """The serialized ModelConfig of a model whose `versions` are all served like `manifest`.

    Every default is filled in.
    """
    name, schema = manifest.ref.name, manifest.schema
    batch, queue = manifest.batch, manifest.queue
    config = proto.ModelConfig(
        name=name,
        platform=manifest.platform,
        backend=BACKEND,
        max_batch_size=schema.rows_max if schema.batched else 0,
        default_model_filename=manifest.path.name,
        version_policy={"specific": {"versions": versions}},
        instance_group=[{"name": name, "count": 1, "kind": "KIND_CPU"}],
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
