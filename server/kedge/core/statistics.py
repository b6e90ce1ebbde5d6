"""What a served version has done so far, in Triton's categories. Counters only; who renders them is
elsewhere.

Written by the pipeline under its lock, once per batch; read by control and metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class DurationCount:
    """How often something happened and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, count: int, ns: int) -> None:
        self.count += count
        self.ns += ns


@dataclass(slots=True)
class BatchSizeStatistics:
    """Executions that ran with one batch size."""

    compute_input: DurationCount = field(default_factory=DurationCount)
    compute_infer: DurationCount = field(default_factory=DurationCount)
    compute_output: DurationCount = field(default_factory=DurationCount)


@dataclass(slots=True)
class VersionStatistics:
    """Counters since the version was loaded; times in ns.

    success, fail: requests; `queue` and `compute_*`: counted per request, a batch's time being
    charged to each of its requests, as Triton does. inference_count: rows. execution_count:
    batches. failures: by Triton's reason (REJECTED, CANCELED, BACKEND, OTHER). refused: by our
    error reason; Triton counts refusals in none of its own counters. path_requests: requests per
    codec path.
    """

    success: DurationCount = field(default_factory=DurationCount)
    fail: DurationCount = field(default_factory=DurationCount)
    queue: DurationCount = field(default_factory=DurationCount)
    compute_input: DurationCount = field(default_factory=DurationCount)
    compute_infer: DurationCount = field(default_factory=DurationCount)
    compute_output: DurationCount = field(default_factory=DurationCount)
    inference_count: int = 0
    execution_count: int = 0
    last_inference_ms: int = 0
    batch_sizes: dict[int, BatchSizeStatistics] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    path_requests: dict[str, int] = field(default_factory=lambda: {"fast": 0, "protobuf": 0})
    requests_pending: int = 0
    rows_pending: int = 0
    bytes_pending: int = 0

    def count_failure(self, reason: str, requests: int, ns: int) -> None:
        """Count `requests` failed requests that together spent `ns` in the server."""
        self.fail.add(requests, ns)
        self.failures[reason] = self.failures.get(reason, 0) + requests

    def count_refusal(self, reason: str) -> None:
        """Count one request that was refused before it was queued."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def count_batch(
        self,
        *,
        requests: int,
        rows: int,
        total_ns: int,
        queue_ns: int,
        input_ns: int,
        infer_ns: int,
        output_ns: int,
        wall_ms: int,
    ) -> None:
        """Count one executed batch. total_ns, queue_ns: summed over its requests; the others: the
        batch's own.
        """
        self.success.add(requests, total_ns)
        self.queue.add(requests, queue_ns)
        self.compute_input.add(requests, requests * input_ns)
        self.compute_infer.add(requests, requests * infer_ns)
        self.compute_output.add(requests, requests * output_ns)
        self.inference_count += rows
        self.execution_count += 1
        self.last_inference_ms = wall_ms
        sizes = self.batch_sizes.get(rows)
        if sizes is None:
            sizes = self.batch_sizes[rows] = BatchSizeStatistics()
        sizes.compute_input.add(1, input_ns)
        sizes.compute_infer.add(1, infer_ns)
        sizes.compute_output.add(1, output_ns)

    def take_over(self, values: Mapping[str, Any]) -> None:
        """Become what `dataclasses.asdict` made of another one, also after a way through JSON."""
        for name, value in values.items():
            current = getattr(self, name)
            if isinstance(current, DurationCount):
                setattr(self, name, DurationCount(**value))
            elif name == "batch_sizes":
                self.batch_sizes = {int(rows): _sizes_from(size) for rows, size in value.items()}
            else:
                setattr(self, name, value)


def _sizes_from(values: Mapping[str, Any]) -> BatchSizeStatistics:
    return BatchSizeStatistics(**{name: DurationCount(**value) for name, value in values.items()})
