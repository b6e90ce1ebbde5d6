"""The metrics page of a gateway with known counters, read by Prometheus' own parser."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kedge.core.statistics import VersionStatistics
from kedge.monitoring.proc import CpuTicks
from kedge.monitoring.prometheus import MetricsPage, machine_metrics
from kedge.monitoring.snapshot import read_snapshot

# What Triton 2.51 shows for a loaded model, with its types; GPU and cache metrics apart.
TRITON = {
    "nv_inference_request_success": "counter",
    "nv_inference_request_failure": "counter",
    "nv_inference_count": "counter",
    "nv_inference_exec_count": "counter",
    "nv_inference_request_duration_us": "counter",
    "nv_inference_queue_duration_us": "counter",
    "nv_inference_compute_input_duration_us": "counter",
    "nv_inference_compute_infer_duration_us": "counter",
    "nv_inference_compute_output_duration_us": "counter",
    "nv_inference_pending_request_count": "gauge",
    "nv_cpu_utilization": "gauge",
    "nv_cpu_memory_total_bytes": "gauge",
    "nv_cpu_memory_used_bytes": "gauge",
}


def busy_statistics() -> VersionStatistics:
    """Two batches of 3 and 300 rows, two failures, one refusal, something waiting."""
    statistics = VersionStatistics(requests_pending=4, rows_pending=9, bytes_pending=1152)
    for rows, requests in ((3, 2), (300, 5)):
        statistics.count_batch(
            requests=requests,
            rows=rows,
            total_ns=requests * 10_000,
            queue_ns=requests * 4_000,
            input_ns=1_000,
            infer_ns=2_000,
            output_ns=3_000,
            wall_ms=1,
        )
    statistics.count_failure("BACKEND", 2, 77_000)
    statistics.count_refusal("queue_full")
    statistics.path_requests["fast"] = 7
    return statistics


def snapshot(**versions: VersionStatistics) -> bytes:
    """A snapshot as `control/snapshot.py` documents it; versions by "model_version"."""
    process = {
        "pid": os.getpid(),
        "version": "1.2.3",
        "refused": {"unknown_model": 6},
        "queue_bytes": 1152,
        "gateway_restarts": 2,
        "workers": [{"name": "fraud", "version": "7", "running": 3, "restarts": 5}]
        * bool(versions),
    }
    models = [
        {
            "name": name.partition("_")[0],
            "version": name.partition("_")[2],
            "statistics": asdict(statistics),
        }
        for name, statistics in versions.items()
    ]
    document = {"ready": True, "draining": False, "process": process, "models": models}
    return json.dumps(document).encode()


def samples_of(page: str) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
    # The parser ends the names of all counters in _total, whatever the page says.
    return {
        (sample.name.removesuffix("_total"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(page: str, name: str, **labels: str) -> float:
    return samples_of(page)[name.removesuffix("_total"), frozenset(labels.items())]


@pytest.fixture(scope="module")
def page() -> str:
    return MetricsPage().render(snapshot(m_2=busy_statistics(), idle_1=VersionStatistics()))


def test_tritons_metrics_are_there_under_tritons_names_and_types(page: str) -> None:
    announced = dict(
        line.split()[2:] for line in page.splitlines() if line.startswith("# TYPE nv_")
    )
    assert announced == TRITON
    assert "nv_inference_count_total" not in page


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nv_inference_request_success", 7),
        ("nv_inference_count", 303),
        ("nv_inference_exec_count", 2),
        ("nv_inference_pending_request_count", 4),
        ("nv_inference_request_duration_us", 70),
        ("nv_inference_queue_duration_us", 28),
        ("nv_inference_compute_input_duration_us", 7),
        ("nv_inference_compute_infer_duration_us", 14),
        ("nv_inference_compute_output_duration_us", 21),
        ("kedge_pending_rows", 9),
        ("kedge_pending_bytes", 1152),
    ],
)
def test_counters_of_a_version_are_shown(page: str, name: str, expected: float) -> None:
    assert value(page, name, model="m", version="2") == expected
    assert value(page, name, model="idle", version="1") == 0


def test_every_reason_of_failure_is_there_from_the_beginning(page: str) -> None:
    failures = {
        reason: value(page, "nv_inference_request_failure", model="m", version="2", reason=reason)
        for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    }
    assert failures == {"REJECTED": 0, "CANCELED": 0, "BACKEND": 2, "OTHER": 0}


def test_decoding_paths_and_refusals_are_told_apart(page: str) -> None:
    codec, refused = "kedge_codec_requests_total", "kedge_requests_refused_total"
    assert value(page, codec, model="m", version="2", path="fast") == 7
    assert value(page, codec, model="m", version="2", path="protobuf") == 0
    assert value(page, refused, model="m", version="2", reason="queue_full") == 1
    assert value(page, refused, reason="unknown_model") == 6


def test_batches_are_counted_by_their_rows(page: str) -> None:
    buckets = {
        bound: value(page, "kedge_batch_rows_bucket", model="m", version="2", le=bound)
        for bound in ("1", "2", "4", "256", "512", "1024", "+Inf")
    }
    assert buckets == {"1": 0, "2": 0, "4": 1, "256": 1, "512": 2, "1024": 2, "+Inf": 2}
    assert value(page, "kedge_batch_rows_sum", model="m", version="2") == 303
    assert value(page, "kedge_batch_rows_count", model="m", version="2") == 2


def test_the_gateway_is_described(page: str) -> None:
    assert value(page, "kedge_build_info", version="1.2.3") == 1
    assert value(page, "kedge_queue_bytes") == 1152
    assert value(page, "kedge_gateway_restarts_total") == 2
    assert value(page, "kedge_workers", model="fraud", version="7") == 3
    assert value(page, "kedge_worker_restarts_total", model="fraud", version="7") == 5
    assert (value(page, "kedge_ready"), value(page, "kedge_draining")) == (1, 0)
    assert value(page, "kedge_gateway_resident_bytes") > 0
    assert value(page, "kedge_gateway_cpu_seconds_total") > 0


def test_every_metric_says_what_it_is_and_is_announced_once(page: str) -> None:
    helps = [line.split(" ", 3)[2:] for line in page.splitlines() if line.startswith("# HELP")]
    assert all(len(description) > 10 for _, description in helps)
    names = [name for name, _ in helps]
    assert len(set(names)) == len(names)


def test_a_page_without_models_is_valid() -> None:
    page = MetricsPage().render(snapshot())
    assert value(page, "kedge_ready") == 1
    assert "model=" not in page


def test_a_machine_that_tells_nothing_of_its_time_has_no_utilization() -> None:
    ticks = CpuTicks(busy=1, total=2)
    assert all(metric.name != "nv_cpu_utilization" for metric in machine_metrics(None, ticks))
    (utilization,) = [
        metric
        for metric in machine_metrics(ticks, CpuTicks(busy=2, total=6))
        if metric.name == "nv_cpu_utilization"
    ]
    assert utilization.samples[0].value == 0.25


def test_a_snapshot_is_read_back_as_it_was_counted() -> None:
    (counters,) = read_snapshot(snapshot(m_2=busy_statistics())).versions
    assert (counters.name, counters.version) == ("m", "2")
    assert counters.statistics == busy_statistics()
