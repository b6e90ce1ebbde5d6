"""The gateway's counters at one moment, read back from the JSON of `control/snapshot.py`. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from kedge.core.statistics import BatchSizeStatistics, DurationCount, VersionStatistics


@dataclass(frozen=True, slots=True)
class VersionCounters:
    """What one served version has done since it was loaded."""

    name: str
    version: str
    statistics: VersionStatistics


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the gateway counts.

    pid: of the gateway process; kedge_version: its package's. refused: requests that reached no
    model, by reason. queue_bytes: raw input bytes that wait in all queues.
    """

    ready: bool
    draining: bool
    pid: int
    kedge_version: str
    refused: Mapping[str, int]
    queue_bytes: int
    versions: tuple[VersionCounters, ...]


def read_snapshot(document: bytes) -> Snapshot:
    """The snapshot that the JSON holds. It is our own gateway's, of this very release: a KeyError
    or TypeError here is a bug.
    """
    value = json.loads(document)
    process = value["process"]
    return Snapshot(
        ready=value["ready"],
        draining=value["draining"],
        pid=process["pid"],
        kedge_version=process["version"],
        refused=process["refused"],
        queue_bytes=process["queue_bytes"],
        versions=tuple(
            VersionCounters(model["name"], model["version"], _statistics(model["statistics"]))
            for model in value["models"]
        ),
    )


def _statistics(value: dict[str, Any]) -> VersionStatistics:
    durations = {
        field.name: DurationCount(**value[field.name])
        for field in fields(VersionStatistics)
        if field.default_factory is DurationCount
    }
    batch_sizes = {int(rows): _batch_size(size) for rows, size in value["batch_sizes"].items()}
    return VersionStatistics(**(value | durations | {"batch_sizes": batch_sizes}))


def _batch_size(value: dict[str, Any]) -> BatchSizeStatistics:
    return BatchSizeStatistics(**{part: DurationCount(**value[part]) for part in value})
