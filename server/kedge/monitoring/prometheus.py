"""The gateway's snapshot as Prometheus metrics: Triton's names where Triton has one, else kedge_*.

The snapshot's fields are those of `core/statistics.py`. Not here: the text format
(`exposition.py`), where host figures come from (`host.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple

from kedge.monitoring.exposition import Family, Kind, Sample, exposition
from kedge.monitoring.host import HostReader, HostReading

Snapshot = Mapping[str, Any]
Statistics = Mapping[str, Any]
NS_PER_US = 1000
# Powers of two, as batches are tuned in them; 4,096 is beyond any batch size in use here.
BATCH_ROWS_BUCKETS = tuple(2**power for power in range(13))
# Triton's reasons. Shown at 0 too, so that a rate exists before the first failure.
FAILURE_REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")


class MetricsRenderer:
    """From the snapshot's JSON to the answer of /metrics, with what the host adds."""

    def __init__(self) -> None:
        self._host = HostReader()

    def __call__(self, snapshot_json: bytes) -> bytes:
        snapshot = json.loads(snapshot_json)
        return render(snapshot, self._host.read(snapshot["process"]["pid"]))


def render(snapshot: Snapshot, host: HostReading) -> bytes:
    """Prometheus text. snapshot: the document of the gateway's Metrics call."""
    families = [
        *(_per_version(metric, snapshot) for metric in VERSION_METRICS),
        _failures(snapshot),
        _refusals(snapshot),
        _codec_paths(snapshot),
        _batch_rows(snapshot),
        *_server(snapshot),
        *_host(host),
    ]
    return exposition(families)


class VersionMetric(NamedTuple):
    """A metric with one sample per model version."""

    name: str
    kind: Kind
    help: str
    value: Callable[[Statistics], int]


def _us(field: str) -> Callable[[Statistics], int]:
    return lambda statistics: statistics[field]["ns"] // NS_PER_US


VERSION_METRICS = (
    VersionMetric(
        "nv_inference_request_success",
        "counter",
        "Requests answered with a result; a request of many rows counts once.",
        lambda statistics: statistics["success"]["count"],
    ),
    VersionMetric(
        "nv_inference_count",
        "counter",
        "Inferences made: rows of all executed batches.",
        lambda statistics: statistics["inference_count"],
    ),
    VersionMetric(
        "nv_inference_exec_count",
        "counter",
        "Batches executed; nv_inference_count divided by it is the mean batch size.",
        lambda statistics: statistics["execution_count"],
    ),
    VersionMetric(
        "nv_inference_pending_request_count",
        "gauge",
        "Requests queued and not yet executing: the signal to scale by.",
        lambda statistics: statistics["requests_pending"],
    ),
    VersionMetric(
        "nv_inference_request_duration_us",
        "counter",
        "Microseconds from a request's arrival to its answer, summed over successful requests.",
        _us("success"),
    ),
    VersionMetric(
        "nv_inference_queue_duration_us",
        "counter",
        "Microseconds spent waiting in the queue, summed over successful requests.",
        _us("queue"),
    ),
    VersionMetric(
        "nv_inference_compute_input_duration_us",
        "counter",
        "Microseconds spent gathering inputs; a batch's time is charged to each of its requests.",
        _us("compute_input"),
    ),
    VersionMetric(
        "nv_inference_compute_infer_duration_us",
        "counter",
        "Microseconds spent in the model; a batch's time is charged to each of its requests.",
        _us("compute_infer"),
    ),
    VersionMetric(
        "nv_inference_compute_output_duration_us",
        "counter",
        "Microseconds spent encoding answers; a batch's time is charged to each of its requests.",
        _us("compute_output"),
    ),
    VersionMetric(
        "kedge_queue_requests",
        "gauge",
        "Requests in the queue; when it is full, further ones are refused as queue_full.",
        lambda statistics: statistics["requests_pending"],
    ),
    VersionMetric(
        "kedge_queue_rows",
        "gauge",
        "Rows of all requests in the queue.",
        lambda statistics: statistics["rows_pending"],
    ),
    VersionMetric(
        "kedge_queue_bytes",
        "gauge",
        "Tensor bytes of all requests in the queue.",
        lambda statistics: statistics["bytes_pending"],
    ),
)


def _versions(snapshot: Snapshot) -> Iterator[tuple[dict[str, str], Statistics]]:
    """The labels and the statistics of every served version."""
    for model in snapshot["models"]:
        yield {"model": model["name"], "version": model["version"]}, model["statistics"]


def _per_version(metric: VersionMetric, snapshot: Snapshot) -> Family:
    samples = [
        Sample(labels, metric.value(statistics)) for labels, statistics in _versions(snapshot)
    ]
    return Family(metric.name, metric.kind, metric.help, samples)


def _failures(snapshot: Snapshot) -> Family:
    return Family(
        "nv_inference_request_failure",
        "counter",
        "Failed requests: REJECTED after a queue timeout, CANCELED while queued, BACKEND when the "
        "model failed. What validation or a full queue refuses is in kedge_requests_refused_total.",
        [
            Sample({**labels, "reason": reason}, statistics["failures"].get(reason, 0))
            for labels, statistics in _versions(snapshot)
            for reason in FAILURE_REASONS
        ],
    )


def _refusals(snapshot: Snapshot) -> Family:
    unaddressed = ({"model": "", "version": ""}, snapshot["process"])
    return Family(
        "kedge_requests_refused_total",
        "counter",
        "Requests refused before they were queued, by reason; model and version are empty where "
        "the request named none that is served.",
        [
            Sample({**labels, "reason": reason}, requests)
            for labels, counted in (*_versions(snapshot), unaddressed)
            for reason, requests in sorted(counted["refused"].items())
        ],
    )


def _codec_paths(snapshot: Snapshot) -> Family:
    return Family(
        "kedge_codec_requests_total",
        "counter",
        "Requests decoded by the compiled codec (fast) and by the protobuf library (protobuf), "
        "which typed contents, parameters and BYTES need.",
        [
            Sample({**labels, "path": path}, requests)
            for labels, statistics in _versions(snapshot)
            for path, requests in sorted(statistics["path_requests"].items())
        ],
    )


def _batch_rows(snapshot: Snapshot) -> Family:
    return Family(
        "kedge_batch_rows",
        "histogram",
        "Rows of the executed batches.",
        [
            sample
            for labels, statistics in _versions(snapshot)
            for sample in _histogram(labels, statistics["batch_sizes"])
        ],
    )


def _histogram(labels: dict[str, str], sizes: Mapping[str, Any]) -> Iterator[Sample]:
    """sizes: by rows as decimal text, the statistics of the batches with so many rows."""
    batches_by_rows = {int(rows): size["compute_infer"]["count"] for rows, size in sizes.items()}
    counts = [0] * (len(BATCH_ROWS_BUCKETS) + 1)
    for rows, batches in batches_by_rows.items():
        counts[_bucket(rows)] += batches
    bounds = [*map(str, BATCH_ROWS_BUCKETS), "+Inf"]
    for bound, batches in zip(bounds, accumulate(counts), strict=True):
        yield Sample({**labels, "le": bound}, batches, "_bucket")
    yield Sample(labels, sum(rows * batches for rows, batches in batches_by_rows.items()), "_sum")
    yield Sample(labels, sum(counts), "_count")


def _bucket(rows: int) -> int:
    """The index of the first bucket whose bound is at least `rows`."""
    return sum(bound < rows for bound in BATCH_ROWS_BUCKETS)


def _server(snapshot: Snapshot) -> Iterable[Family]:
    yield Family(
        "kedge_build_info",
        "gauge",
        "Always 1; the label tells which version of Kedge serves.",
        [Sample({"version": snapshot["process"]["version"]}, 1)],
    )
    yield _single(
        "kedge_ready",
        "gauge",
        "1 while the server is ready for requests, as /v2/health/ready says.",
        int(snapshot["ready"]),
    )
    yield _single(
        "kedge_draining",
        "gauge",
        "1 once the server stops: it answers what it accepted and refuses what comes.",
        int(snapshot["draining"]),
    )


def _host(host: HostReading) -> Iterable[Family]:
    yield _single(
        "nv_cpu_utilization",
        "gauge",
        "Busy share of all cores since the last scrape, 0 to 1.",
        host.cpu_share,
    )
    yield _single(
        "nv_cpu_memory_total_bytes", "gauge", "Memory of the host.", host.memory_total_bytes
    )
    yield _single(
        "nv_cpu_memory_used_bytes",
        "gauge",
        "Memory of the host that is not available to programs.",
        host.memory_used_bytes,
    )
    if host.process is not None:
        yield _single(
            "kedge_gateway_resident_bytes",
            "gauge",
            "Resident memory of the gateway process.",
            host.process.resident_bytes,
        )
        yield _single(
            "kedge_gateway_cpu_seconds_total",
            "counter",
            "CPU time of the gateway process, user and kernel.",
            host.process.cpu_s,
        )


def _single(name: str, kind: Kind, help_text: str, value: int | float) -> Family:
    return Family(name, kind, help_text, [Sample({}, value)])
