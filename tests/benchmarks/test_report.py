import copy

import pytest
from _harness import replace_block
from _metrics import parse_codec_paths, samples
from _report import (
    IMAGE_GOALS,
    LOADS,
    Goal,
    codec_line,
    goal_rows,
    goal_table,
    is_missed,
    markdown,
    markdown_payloads,
    measure_prefix,
    payload_table,
    server_table,
)

from support.benchmark_machine import MACHINE


def measures(cpu_us, p50_us=100.0):
    figures = {"pss_mb": 50.0, "perf_analyzer_16.requests_per_s": 1e6 / cpu_us}
    for model, counts in LOADS.items():
        prefix = measure_prefix(model)
        figures[f"{prefix}peak_growth_mb"] = cpu_us
        for load in (f"{prefix}h2load_{n}" for n in counts):
            figures[f"{load}.cpu_us_per_request"] = cpu_us
            figures[f"{load}.requests_per_s"] = 1e6 / cpu_us
            figures[f"{load}.p50_us"], figures[f"{load}.p99_us"] = p50_us, 2 * p50_us
    return figures


def server(label, *rounds):
    return {"label": label, "rounds": list(rounds), "median": rounds[len(rounds) // 2]}


@pytest.fixture
def servers():
    ours = measures(10.0), measures(12.0), measures(14.0)
    return {
        "kedge": server("Kedge", *[{**m, "h2load.codec_fast": 7.0} for m in ours]),
        "triton": server("Triton", measures(50.0), measures(48.0), measures(40.0)),
        "ray": {"label": "Ray", "absent": "not installed: a | b\nmore", "rounds": [], "median": {}},
    }


@pytest.mark.parametrize(
    ("at_least", "ratio", "reached"),
    [(False, 0.5, True), (False, 0.501, False), (True, 0.5, True), (True, 0.499, False)],
)
def test_a_goal_is_reached_at_its_bound_and_missed_just_beyond(at_least, ratio, reached):
    assert Goal("", "", "", 0.5, at_least).reached(ratio) is reached


def test_goal_row_is_the_ratio_of_medians_with_the_spread_of_the_rounds(servers):
    row = goal_rows(servers)[0]
    assert row["ratio"] == 12.0 / 48.0
    assert (row["ratio_min"], row["ratio_max"]) == (10.0 / 50.0, 14.0 / 40.0)
    assert row["reached"] is True


def test_goal_against_an_absent_server_is_not_measured_instead_of_reached(servers):
    by_text = {row["goal"]: row for row in goal_rows(servers)}
    row = by_text["server CPU, 64 in flight, to grpc.aio"]
    assert (row["ratio"], row["reached"]) == (None, None)
    assert "| not measured |" in goal_table([row])


def test_server_table_has_one_line_per_server_and_the_reason_of_an_absent_one(servers):
    lines = server_table(servers).splitlines()
    assert len(lines) == 2 + 3
    assert "| Kedge | 12.0 | 83,333 | 0.10 / 0.20 |" in lines[2]
    assert "absent: not installed: a / b |" in lines[4]
    assert {line.count("|") for line in lines} == {9}


def test_a_server_that_failed_later_keeps_its_figures_and_its_reason(servers):
    broken = copy.deepcopy(servers)
    broken["triton"]["absent"] = "failed in round 3: gone"
    table = server_table(broken)
    assert "| Triton | 48.0 |" in table
    assert "| Triton | absent: failed in round 3: gone |" in table


def test_codec_line_sums_the_rounds_and_is_silent_without_the_counter(servers):
    assert codec_line(servers) == "Kedge decoded 21 requests by its codec and 0 by protobuf."
    assert codec_line({"triton": servers["triton"]}) == ""


def test_worker_goal_holds_the_worker_process_against_triton_not_the_inline_server(servers):
    by_text = {row["goal"]: row for row in goal_rows(servers)}
    text = "server CPU, 64 in flight, worker process, to Triton"
    assert by_text[text]["reached"] is None
    servers["kedge_workers"] = server("Kedge, worker", measures(24.0))
    row = {row["goal"]: row for row in goal_rows(servers)}[text]
    assert (row["ratio"], row["bound"], row["reached"]) == (0.5, 0.5, True)


def test_image_goals_are_requests_per_s_at_1_4_and_16_in_flight_for_both_placements(servers):
    servers["kedge_workers"] = server("Kedge, worker", measures(96.0))
    rows = goal_rows(servers, IMAGE_GOALS)
    assert [(row["ratio"], row["reached"]) for row in rows] == [(4.0, True)] * 3 + [
        (0.5, False)
    ] * 3


def test_run_is_missed_by_a_measured_goal_only_and_not_by_a_stretch():
    def goal(reached, stretch=False):
        return {"reached": reached, "stretch": stretch}

    assert not is_missed([goal(True), goal(None), goal(False, stretch=True)])
    assert is_missed([goal(True), goal(False)])


def test_payload_table_shows_the_largest_growth_of_the_rounds_and_the_medians_of_all_else(servers):
    table = payload_table(servers, "image").splitlines()
    assert table[0].count("|") == table[2].count("|") == table[4].count("|") == 10
    assert table[2].startswith("| Kedge | 83,333 | 83,333 | 83,333 | 0.10 / 0.20 |")
    assert table[2].endswith("| 12.0 | 14 |")


def test_report_of_payloads_has_a_table_each_and_the_image_goals(servers):
    row = {
        "date": "2024-05-06",
        "settings": {"rounds": 1, "seconds": 1.0, "payloads": ["image", "strings"]},
        "load_tool": "h2load",
        "servers": servers,
        "image_goals": goal_rows(servers, IMAGE_GOALS),
        "machine": MACHINE,
    }
    report = markdown_payloads(row)
    assert report.count("| Kedge | ") == 2
    assert "requests/s, 16 in flight, inline, to Triton | ≥ 1 | 4.000 |" in report
    row["settings"]["payloads"] = ["strings"]
    assert "FP32" not in markdown_payloads(row)


def test_report_says_when_how_and_on_which_machine(servers):
    row = {
        "date": "2024-05-06T07:08:09+00:00",
        "settings": {"rounds": 3, "seconds": 2.5},
        "load_tool": "h2load nghttp2/1.0",
        "servers": servers,
        "goals": goal_rows(servers),
        "machine": MACHINE,
    }
    last = markdown(row).splitlines()[-1]
    assert last.startswith("2024-05-06, medians of 3 interleaved rounds of 2.5 s")
    assert "2 cores of Testprocessor" in last
    assert last.endswith("commit abc.")


def test_codec_counters_are_summed_over_models_whatever_the_order_of_labels():
    page = """# TYPE kedge_codec_requests_total counter
kedge_codec_requests_total{model="a",version="1",path="fast"} 5.0
kedge_codec_requests_total{path="fast",model="b",version="1"} 1e+06
kedge_codec_requests_total{model="b",version="1",path="protobuf"} 2
other_total{path="fast"} 9
"""
    assert parse_codec_paths(page) == {"fast": 1_000_005.0, "protobuf": 2.0}


def test_samples_are_read_with_and_without_labels_whatever_stands_in_them():
    page = """# HELP a_total text
a_total 3
a_total{model="b",version=""} 1.5 1395066363000
a_total{model="c, \\"d\\""} 2
a_total_created{model="b"} 9
"""
    assert list(samples(page, "a_total")) == [
        ({}, 3.0),
        ({"model": "b", "version": ""}, 1.5),
        ({"model": 'c, \\"d\\"'}, 2.0),
    ]


def test_replace_block_keeps_all_that_stands_outside_the_marks():
    text = "a\n<!-- bench:serve -->\nold\n<!-- /bench:serve -->\nb\n"
    once = replace_block(text, "serve", "new")
    assert once == "a\n<!-- bench:serve -->\nnew\n<!-- /bench:serve -->\nb\n"
    assert replace_block(once, "serve", "new") == once


def test_replace_block_refuses_a_text_without_marks():
    with pytest.raises(ValueError, match="bench:serve"):
        replace_block("nothing here", "serve", "new")
