"""The text format; Prometheus' own parser is the oracle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from kedge.monitoring.exposition import Metric, Sample, expose, histogram_samples

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def parsed(*metrics: Metric) -> list[tuple[str, dict[str, str], float]]:
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(expose(metrics))
        for sample in family.samples
    ]


@given(TEXT, st.floats(allow_nan=False) | st.integers(0, 2**53))
def test_any_label_and_value_comes_back(text: str, value: float) -> None:
    metric = Metric("a_metric", "gauge", "What it is", [Sample({"model": text, "v": "1"}, value)])
    assert parsed(metric) == [("a_metric", {"model": text, "v": "1"}, value)]


def test_descriptions_stay_on_one_line() -> None:
    page = expose([Metric("a_metric", "gauge", "two\nlines \\ one", [])])
    (family,) = text_string_to_metric_families(page)
    assert family.documentation == "two\nlines \\ one"
    assert page.count("\n") == 2


def test_a_counter_keeps_its_name() -> None:
    page = expose([Metric("nv_inference_count", "counter", "Rows", [Sample({}, 3)])])
    assert page.splitlines()[1:] == ["# TYPE nv_inference_count counter", "nv_inference_count 3"]


def test_histogram_buckets_count_everything_up_to_their_bound() -> None:
    samples = histogram_samples({"model": "m"}, (1, 2, 4), {1: 5, 2: 1, 3: 2, 9: 1}, total=22)
    metric = Metric("rows", "histogram", "Rows", list(samples))
    assert parsed(metric) == [
        ("rows_bucket", {"model": "m", "le": "1"}, 5.0),
        ("rows_bucket", {"model": "m", "le": "2"}, 6.0),
        ("rows_bucket", {"model": "m", "le": "4"}, 8.0),
        ("rows_bucket", {"model": "m", "le": "+Inf"}, 9.0),
        ("rows_sum", {"model": "m"}, 22.0),
        ("rows_count", {"model": "m"}, 9.0),
    ]
