"""The gateway's counters at one moment, read back from the JSON of `control/snapshot.py`. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kedge.core.statistics import VersionStatistics


@dataclass(frozen=True, slots=True)
class VersionCounters:
    """What one served version has done since it was loaded."""

    name: str
    version: str
    statistics: VersionStatistics


@dataclass(frozen=True, slots=True)
class WorkerCounters:
    """The worker processes of one version: how many run, and how often one was started again."""

    name: str
    version: str
    running: int
    restarts: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the server counts.

    pid: of the gateway process; kedge_version: its package's. refused: requests that reached no
    model, by reason. queue_bytes: raw input bytes that wait in all queues. gateway_restarts: how
    often the gateway process was started again.
    """

    ready: bool
    draining: bool
    pid: int
    kedge_version: str
    refused: Mapping[str, int]
    queue_bytes: int
    gateway_restarts: int
    workers: tuple[WorkerCounters, ...]
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
        gateway_restarts=process["gateway_restarts"],
        workers=tuple(WorkerCounters(**worker) for worker in process["workers"]),
        versions=tuple(
            VersionCounters(model["name"], model["version"], _statistics(model["statistics"]))
            for model in value["models"]
        ),
    )


def _statistics(value: dict[str, Any]) -> VersionStatistics:
    statistics = VersionStatistics()
    statistics.take_over(value)
    return statistics
