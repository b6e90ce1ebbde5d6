from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from kedge.monitoring.exposition import Family, Sample, exposition

# The parser splits lines as str.splitlines does not: only \n ends one.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=20)


def parsed(families):
    return list(text_string_to_metric_families(exposition(families).decode()))


@given(TEXT)
def test_any_label_value_comes_back_from_the_parser(value):
    (family,) = parsed([Family("m", "gauge", "Help.", [Sample({"label": value}, 1)])])
    assert family.samples[0].labels == {"label": value}


@given(st.floats(allow_nan=False) | st.integers(0, 2**53))
def test_any_value_comes_back_from_the_parser(value):
    (family,) = parsed([Family("m", "gauge", "Help.", [Sample({}, value)])])
    assert family.samples[0].value == value


def test_help_keeps_backslashes_and_line_ends():
    (family,) = parsed([Family("m", "gauge", "a\\b\nc", [])])
    assert family.documentation == "a\\b\nc"


def test_a_counter_keeps_its_exact_name_with_or_without_total():
    text = exposition(
        [
            Family("nv_inference_count", "counter", "Help.", [Sample({}, 3)]),
            Family("kedge_x_total", "counter", "Help.", [Sample({}, 4)]),
        ]
    ).decode()
    assert "# TYPE nv_inference_count counter\nnv_inference_count 3\n" in text
    assert "# TYPE kedge_x_total counter\nkedge_x_total 4\n" in text
