"""Answers to questions about the server and its models, as protocol messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kedge import __version__, proto
from kedge.core.addressing import find_version, parse_version
from kedge.core.errors import InvalidRequest
from kedge.core.statistics import DurationCount
from kedge.core.values import Catalog, IndexEntry, Runtime, ServedVersion, TensorSpec, VersionState

# Triton's own clients and examples check for this name.
SERVER_NAME = "triton"
# What is built; later issues append theirs.
EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "statistics",
)


def server_metadata() -> proto.ServerMetadataResponse:
    return proto.ServerMetadataResponse(
        name=SERVER_NAME, version=__version__, extensions=EXTENSIONS
    )


def model_metadata(
    catalog: Catalog[Runtime], name: str, version: str
) -> proto.ModelMetadataResponse:
    """Raises UnknownModel or InvalidRequest, see `find_version`."""
    manifest = find_version(catalog, name, version).manifest
    schema = manifest.schema

    def tensor(spec: TensorSpec) -> proto.ModelMetadataResponse.TensorMetadata:
        shape = (-1, *spec.dims) if schema.batched else spec.dims
        return proto.ModelMetadataResponse.TensorMetadata(
            name=spec.name, datatype=spec.datatype.name, shape=shape
        )

    versions = [manifest.ref.version] if version else sorted(catalog.models[name])
    return proto.ModelMetadataResponse(
        name=name,
        versions=map(str, versions),
        platform=manifest.platform,
        inputs=map(tensor, schema.inputs),
        outputs=map(tensor, schema.outputs),
    )


def model_config(catalog: Catalog[Runtime], name: str, version: str) -> proto.ModelConfigResponse:
    """Raises UnknownModel or InvalidRequest, see `find_version`."""
    manifest = find_version(catalog, name, version).manifest
    return proto.ModelConfigResponse(config=proto.ModelConfig.FromString(manifest.config))


def model_statistics(
    catalog: Catalog[Runtime], name: str, version: str
) -> proto.ModelStatisticsResponse:
    """Of one version, all versions of a model, or with an empty name of everything.

    Raises InvalidRequest also for what is not served; only here Triton does not say NOT_FOUND.
    """
    number = parse_version(version)
    return proto.ModelStatisticsResponse(
        model_stats=map(_version_statistics, _selected(catalog, name, number))
    )


def _selected(
    catalog: Catalog[Runtime], name: str, version: int | None
) -> Sequence[ServedVersion[Runtime]]:
    if not name:
        return catalog.versions()
    versions = catalog.models.get(name)
    if not versions:
        raise InvalidRequest(f"requested model '{name}' is not available")
    if version is None:
        return [versions[number] for number in sorted(versions)]
    if version not in versions:
        raise InvalidRequest(f"requested model version is not available for model '{name}'")
    return [versions[version]]


def _version_statistics(served: ServedVersion[Runtime]) -> proto.ModelStatistics:
    counted = served.statistics
    return proto.ModelStatistics(
        name=served.ref.name,
        version=str(served.ref.version),
        last_inference=counted.last_inference_ms,
        inference_count=counted.inference_count,
        execution_count=counted.execution_count,
        inference_stats=proto.InferStatistics(
            success=_duration(counted.success),
            fail=_duration(counted.fail),
            queue=_duration(counted.queue),
            compute_input=_duration(counted.compute_input),
            compute_infer=_duration(counted.compute_infer),
            compute_output=_duration(counted.compute_output),
            # There is no cache; Triton without one sends zeros too.
            cache_hit=_duration(DurationCount()),
            cache_miss=_duration(DurationCount()),
        ),
        batch_stats=[
            proto.InferBatchStatistics(
                batch_size=rows,
                compute_input=_duration(batch.compute_input),
                compute_infer=_duration(batch.compute_infer),
                compute_output=_duration(batch.compute_output),
            )
            for rows, batch in sorted(counted.batch_sizes.items())
        ],
    )


def _duration(counted: DurationCount) -> proto.StatisticDuration:
    return proto.StatisticDuration(count=counted.count, ns=counted.ns)


def repository_index(
    entries: Iterable[IndexEntry], *, ready_only: bool
) -> proto.RepositoryIndexResponse:
    return proto.RepositoryIndexResponse(
        models=[
            proto.RepositoryIndexResponse.ModelIndex(
                name=entry.name,
                version=entry.version,
                state=entry.state.value if entry.state else "",
                reason=entry.reason,
            )
            for entry in entries
            if entry.state is VersionState.READY or not ready_only
        ]
    )
