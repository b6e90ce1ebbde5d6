"""Which metrics there are, what each means, and how it comes from the gateway's counters.

Names and meanings that begin with nv_ are Triton's, so that its dashboards and autoscaling rules
work; kedge_ are our own. Counters start anew when a version is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kedge.core.statistics import DurationCount, VersionStatistics
from kedge.monitoring.exposition import Labels, Metric, Sample, expose, histogram_samples
from kedge.monitoring.proc import (
    CpuTicks,
    ProcessFigures,
    read_cpu_ticks,
    read_memory_bytes,
    read_process,
)
from kedge.monitoring.snapshot import (
    Snapshot,
    VersionCounters,
    WorkerCounters,
    read_snapshot,
)

NS_PER_US = 1_000
FAILURE_REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
# Fixed, so that servers with other batch limits can be added up.
BATCH_ROWS_BOUNDS = tuple(2**power for power in range(11))

Value = Callable[[VersionStatistics], int]


def _us(duration: DurationCount) -> int:
    return duration.ns // NS_PER_US


# One sample per model and version.
PER_VERSION: Sequence[tuple[str, str, str, Value]] = (
    (
        "nv_inference_request_success",
        "counter",
        "Requests answered with outputs; a request with many rows counts once",
        lambda counted: counted.success.count,
    ),
    (
        "nv_inference_count",
        "counter",
        "Inferences: rows of all executed batches",
        lambda counted: counted.inference_count,
    ),
    (
        "nv_inference_exec_count",
        "counter",
        "Batches executed; nv_inference_count divided by it is the mean batch size",
        lambda counted: counted.execution_count,
    ),
    (
        "nv_inference_pending_request_count",
        "gauge",
        "Requests that wait in the queue now",
        lambda counted: counted.requests_pending,
    ),
    (
        "nv_inference_request_duration_us",
        "counter",
        "Microseconds from arrival to answer, summed over successful requests",
        lambda counted: _us(counted.success),
    ),
    (
        "nv_inference_queue_duration_us",
        "counter",
        "Microseconds in the queue, summed over successful requests",
        lambda counted: _us(counted.queue),
    ),
    (
        "nv_inference_compute_input_duration_us",
        "counter",
        "Microseconds of gathering the batch's inputs, charged to each of its requests",
        lambda counted: _us(counted.compute_input),
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "counter",
        "Microseconds in the model, charged to each request of the batch",
        lambda counted: _us(counted.compute_infer),
    ),
    (
        "nv_inference_compute_output_duration_us",
        "counter",
        "Microseconds of writing the batch's answers, charged to each of its requests",
        lambda counted: _us(counted.compute_output),
    ),
    (
        "kedge_pending_rows",
        "gauge",
        "Rows that wait in the queue now",
        lambda counted: counted.rows_pending,
    ),
    (
        "kedge_pending_bytes",
        "gauge",
        "Raw input bytes that wait in the queue now",
        lambda counted: counted.bytes_pending,
    ),
)


class MetricsPage:
    """Renders one page per scrape. Keeps only the machine's CPU ticks of the scrape before."""

    def __init__(self) -> None:
        self._cpu_ticks = read_cpu_ticks()

    def render(self, snapshot_json: bytes) -> str:
        """snapshot_json: the gateway's counters, see `snapshot.py`."""
        snapshot = read_snapshot(snapshot_json)
        ticks_before, self._cpu_ticks = self._cpu_ticks, read_cpu_ticks()
        return expose(
            [
                *version_metrics(snapshot.versions),
                *worker_metrics(snapshot.workers),
                *gateway_metrics(snapshot, read_process(snapshot.pid)),
                *machine_metrics(ticks_before, self._cpu_ticks),
            ]
        )


def version_metrics(versions: Sequence[VersionCounters]) -> Iterator[Metric]:
    """What the served versions have done."""
    for name, kind, description, value in PER_VERSION:
        samples = [Sample(_labels(counters), value(counters.statistics)) for counters in versions]
        yield Metric(name, kind, description, samples)
    yield Metric(
        "nv_inference_request_failure",
        "counter",
        "Failed requests: REJECTED waited too long in the queue, CANCELED were given up by the "
        "client there, BACKEND failed in the model; refused ones are kedge_requests_refused_total",
        [
            Sample(
                _labels(counters) | {"reason": reason}, counters.statistics.failures.get(reason, 0)
            )
            for counters in versions
            for reason in FAILURE_REASONS
        ],
    )
    yield Metric(
        "kedge_codec_requests_total",
        "counter",
        "Requests by how they were decoded: fast is the compiled codec, protobuf takes rare shapes "
        "of message and costs several times as much",
        [
            Sample(_labels(counters) | {"path": path}, requests)
            for counters in versions
            for path, requests in counters.statistics.path_requests.items()
        ],
    )
    yield Metric(
        "kedge_batch_rows",
        "histogram",
        "Executed batches by their rows",
        [
            sample
            for counters in versions
            for sample in histogram_samples(
                _labels(counters),
                BATCH_ROWS_BOUNDS,
                {
                    rows: batches.compute_infer.count
                    for rows, batches in counters.statistics.batch_sizes.items()
                },
                counters.statistics.inference_count,
            )
        ],
    )


def worker_metrics(workers: Sequence[WorkerCounters]) -> Iterator[Metric]:
    """The worker processes of versions that have some."""
    yield Metric(
        "kedge_workers",
        "gauge",
        "Worker processes that have loaded the model and run",
        [Sample(_worker_labels(worker), worker.running) for worker in workers],
    )
    yield Metric(
        "kedge_worker_restarts_total",
        "counter",
        "Worker processes started again because one crashed, hung or was killed",
        [Sample(_worker_labels(worker), worker.restarts) for worker in workers],
    )


def gateway_metrics(snapshot: Snapshot, process: ProcessFigures | None) -> Iterator[Metric]:
    """What concerns the gateway process as a whole. process: None if it cannot be seen."""
    yield Metric(
        "kedge_requests_refused_total",
        "counter",
        "Requests refused before they were queued, which Triton's metrics count nowhere; without "
        "model and version if they reached none",
        [
            Sample(_labels(counters) | {"reason": reason}, requests)
            for counters in snapshot.versions
            for reason, requests in counters.statistics.refused.items()
        ]
        + [Sample({"reason": reason}, requests) for reason, requests in snapshot.refused.items()],
    )
    yield _gauge(
        "kedge_queue_bytes", "Raw input bytes that wait in all queues now", snapshot.queue_bytes
    )
    yield Metric(
        "kedge_gateway_restarts_total",
        "counter",
        "How often the gateway process was started again",
        [Sample({}, snapshot.gateway_restarts)],
    )
    yield _gauge("kedge_ready", "1 while the server says that it is ready", int(snapshot.ready))
    yield _gauge(
        "kedge_draining", "1 from SIGTERM on, while accepted requests end", int(snapshot.draining)
    )
    version = Sample({"version": snapshot.kedge_version}, 1)
    yield Metric("kedge_build_info", "gauge", "Always 1; the label is Kedge's version", [version])
    if process is not None:
        yield _gauge(
            "kedge_gateway_resident_bytes",
            "Physical memory of the gateway process",
            process.resident_bytes,
        )
        yield Metric(
            "kedge_gateway_cpu_seconds_total",
            "counter",
            "User and system CPU time of the gateway process",
            [Sample({}, process.cpu_s)],
        )


def machine_metrics(before: CpuTicks | None, now: CpuTicks | None) -> Iterator[Metric]:
    """Triton's figures of the host; none where the system does not tell."""
    if before is not None and now is not None:
        yield _gauge(
            "nv_cpu_utilization",
            "Share of all CPUs that was busy since the scrape before, 0.0 to 1.0",
            now.busy_share_since(before),
        )
    memory_bytes = read_memory_bytes()
    if memory_bytes:
        total_bytes = memory_bytes["MemTotal"]
        used_bytes = total_bytes - memory_bytes["MemAvailable"]
        yield _gauge("nv_cpu_memory_total_bytes", "Memory of the host", total_bytes)
        yield _gauge(
            "nv_cpu_memory_used_bytes", "Memory of the host that is not available", used_bytes
        )


def _labels(counters: VersionCounters) -> Labels:
    return {"model": counters.name, "version": counters.version}


def _worker_labels(worker: WorkerCounters) -> Labels:
    return {"model": worker.name, "version": worker.version}


def _gauge(name: str, description: str, value: float) -> Metric:
    return Metric(name, "gauge", description, [Sample({}, value)])
