import json
import os
from dataclasses import asdict

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kedge.core.statistics import VersionStatistics
from kedge.monitoring.host import HostReading, ProcessReading
from kedge.monitoring.prometheus import MetricsRenderer, render

HOST = HostReading(
    cpu_share=0.5,
    memory_total_bytes=1000,
    memory_used_bytes=600,
    process=ProcessReading(resident_bytes=77, cpu_s=1.25),
)
MODEL = {"model": 'fr"aud', "version": "3"}
# Triton's table of metrics for a model without cache, GPU or optional histograms.
TRITON_COUNTERS = {
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
}
TRITON_GAUGES = {
    "nv_inference_pending_request_count",
    "nv_cpu_utilization",
    "nv_cpu_memory_total_bytes",
    "nv_cpu_memory_used_bytes",
}


def counted():
    """Statistics in which every number is another one."""
    statistics = VersionStatistics(requests_pending=5, rows_pending=6, bytes_pending=7)
    for requests, rows in ((1, 1), (2, 3), (3, 3)):
        statistics.count_batch(
            requests=requests,
            rows=rows,
            total_ns=1_000_000,
            queue_ns=200_000,
            input_ns=11_000,
            infer_ns=22_000,
            output_ns=33_000,
            wall_ms=1,
        )
    statistics.count_failure("REJECTED", 4, 1_000)
    statistics.count_refusal("queue_full")
    statistics.count_refusal("queue_full")
    statistics.path_requests["fast"] = 8
    statistics.path_requests["protobuf"] = 9
    return statistics


def snapshot_of(statistics):
    """As the gateway sends it: through JSON, whose keys are all strings."""
    document = {
        "ready": True,
        "draining": False,
        "process": {"pid": os.getpid(), "version": "1.2.3", "refused": {"unknown_model": 2}},
        "models": [{"name": 'fr"aud', "version": "3", "statistics": asdict(statistics)}],
    }
    return json.loads(json.dumps(document))


def families_of(text):
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def exact_name(name):
    return name.removesuffix("_total") if name.startswith("nv_inference") else name


@pytest.fixture(scope="module")
def samples():
    """Value by name and labels. The parser renames counters as OpenMetrics has them, with _total;
    the exact names are another test's.
    """
    return {
        (exact_name(sample.name), tuple(sorted(sample.labels.items()))): sample.value
        for family in families_of(render(snapshot_of(counted()), HOST)).values()
        for sample in family.samples
    }


def value(samples, name, **labels):
    return samples[name, tuple(sorted(labels.items()))]


def test_triton_s_metrics_have_its_exact_names_and_types():
    text = render(snapshot_of(counted()), HOST).decode()
    typed = dict(line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE"))
    assert {name for name in typed if name.startswith("nv_")} == TRITON_COUNTERS | TRITON_GAUGES
    assert {typed[name] for name in TRITON_COUNTERS} == {"counter"}
    assert {typed[name] for name in TRITON_GAUGES} == {"gauge"}
    assert not any(line.startswith("nv_") and "_total{" in line for line in text.splitlines())


def test_counters_have_the_values_of_the_statistics(samples):
    assert value(samples, "nv_inference_request_success", **MODEL) == 6
    assert value(samples, "nv_inference_count", **MODEL) == 7
    assert value(samples, "nv_inference_exec_count", **MODEL) == 3
    assert value(samples, "nv_inference_request_failure", **MODEL, reason="REJECTED") == 4
    assert value(samples, "nv_inference_request_failure", **MODEL, reason="BACKEND") == 0


def test_durations_are_in_microseconds(samples):
    assert value(samples, "nv_inference_request_duration_us", **MODEL) == 3_000
    assert value(samples, "nv_inference_queue_duration_us", **MODEL) == 600
    assert value(samples, "nv_inference_compute_input_duration_us", **MODEL) == 6 * 11
    assert value(samples, "nv_inference_compute_infer_duration_us", **MODEL) == 6 * 22
    assert value(samples, "nv_inference_compute_output_duration_us", **MODEL) == 6 * 33


def test_the_queue_is_told_in_requests_rows_and_bytes(samples):
    assert value(samples, "nv_inference_pending_request_count", **MODEL) == 5
    assert value(samples, "kedge_queue_requests", **MODEL) == 5
    assert value(samples, "kedge_queue_rows", **MODEL) == 6
    assert value(samples, "kedge_queue_bytes", **MODEL) == 7


def test_refusals_are_counted_by_reason_also_where_no_model_was_found(samples):
    name = "kedge_requests_refused_total"
    assert value(samples, name, **MODEL, reason="queue_full") == 2
    assert value(samples, name, model="", version="", reason="unknown_model") == 2


def test_both_codec_paths_are_counted(samples):
    assert value(samples, "kedge_codec_requests_total", **MODEL, path="fast") == 8
    assert value(samples, "kedge_codec_requests_total", **MODEL, path="protobuf") == 9


def test_batch_sizes_become_a_cumulative_histogram(samples):
    name = "kedge_batch_rows"
    assert value(samples, f"{name}_bucket", **MODEL, le="1") == 1
    assert value(samples, f"{name}_bucket", **MODEL, le="2") == 1
    assert value(samples, f"{name}_bucket", **MODEL, le="4") == 3
    assert value(samples, f"{name}_bucket", **MODEL, le="+Inf") == 3
    assert value(samples, f"{name}_sum", **MODEL) == 7
    assert value(samples, f"{name}_count", **MODEL) == 3


@pytest.mark.parametrize(
    ("rows", "bound"), [(1, "1"), (2, "2"), (3, "4"), (4096, "4096"), (4097, "+Inf")]
)
def test_a_batch_falls_into_the_first_bucket_that_is_not_smaller(rows, bound):
    statistics = VersionStatistics()
    times = {"total_ns": 1, "queue_ns": 1, "input_ns": 1, "infer_ns": 1, "output_ns": 1}
    statistics.count_batch(requests=1, rows=rows, wall_ms=1, **times)
    families = families_of(render(snapshot_of(statistics), HOST))
    buckets = [s for s in families["kedge_batch_rows"].samples if s.name.endswith("_bucket")]
    assert next(sample.labels["le"] for sample in buckets if sample.value == 1) == bound


def test_the_process_and_the_host_are_told(samples):
    assert value(samples, "kedge_build_info", version="1.2.3") == 1
    assert value(samples, "kedge_ready") == 1
    assert value(samples, "kedge_draining") == 0
    assert value(samples, "nv_cpu_utilization") == 0.5
    assert value(samples, "nv_cpu_memory_used_bytes") == 600
    assert value(samples, "kedge_gateway_resident_bytes") == 77
    assert value(samples, "kedge_gateway_cpu_seconds_total") == 1.25


def test_a_process_that_is_gone_leaves_its_metrics_out():
    text = render(snapshot_of(counted()), HostReading(0.5, 1000, 600, None))
    assert b"kedge_gateway_" not in text
    assert b"nv_cpu_utilization 0.5" in text


def test_every_metric_has_a_sentence_of_help():
    for family in families_of(render(snapshot_of(counted()), HOST)).values():
        assert family.documentation.endswith("."), family.name


def test_the_renderer_reads_the_process_that_the_snapshot_names():
    text = MetricsRenderer()(json.dumps(snapshot_of(counted())).encode())
    resident = families_of(text)["kedge_gateway_resident_bytes"].samples[0].value
    assert resident > 1 << 20
