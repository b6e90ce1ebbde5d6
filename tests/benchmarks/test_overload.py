import numpy as np
import overload
import pytest
from _openloop import DEADLINE_EXCEEDED, NEVER_SENT, OK, UNAVAILABLE, Outcome
from overload import figures, goals, growth_mb, markdown

from support.benchmark_machine import MACHINE


def outcome(*calls):
    """Calls of (due, sent, done, status)."""
    due, sent, done, status = map(np.array, zip(*calls, strict=True))
    return Outcome(due, sent, done, status, client_cpu_s=0.5)


def test_figures_tell_answers_in_time_from_late_ones_refusals_and_losses():
    found = figures(
        outcome(
            (0.0, 0.001, 0.010, OK),
            (0.5, 0.502, 0.590, OK),
            (1.0, 1.000, 1.120, OK),
            (1.5, 1.500, 1.502, UNAVAILABLE),
            (1.6, 1.600, 1.604, UNAVAILABLE),
            (1.7, 1.700, 1.850, DEADLINE_EXCEEDED),
            (1.8, 0.000, 1.900, NEVER_SENT),
            (2.0, 2.000, 2.010, OK),
        ),
        deadline_s=0.1,
    )
    assert found.offered_per_s == 4.0
    assert (found.answered_per_s, found.goodput_per_s) == (2.0, 1.5)
    assert (found.refused_share, found.lost_share) == (0.25, 0.25)
    assert found.refusal_max_ms == pytest.approx(4.0)
    # The slowest of those that were let in is the one that never came.
    assert found.accepted_p99_ms == pytest.approx(149, abs=2)
    assert found.late_max_ms == pytest.approx(2.0)
    assert found.client_cpu_share == 0.25


def test_refusals_that_never_happened_have_no_time():
    found = figures(outcome((0.0, 0.0, 0.01, OK), (1.0, 1.0, 1.01, OK)), 0.1)
    assert np.isnan(found.refusal_p99_ms)
    assert found.refused_share == 0


def test_growth_compares_the_last_quarter_with_the_second_because_the_first_fills_buffers():
    assert growth_mb([10, 90, 100, 100, 100, 100, 100, 102, 104]) == pytest.approx(3.0)
    assert growth_mb([1, 2, 3]) == 0.0


def kedge(goodput=2_000.0):
    found = {
        "offered_per_s": 9_000.0,
        "answered_per_s": goodput,
        "goodput_per_s": goodput,
        "refused_share": 0.7,
        "lost_share": 0.0,
        "accepted_p99_ms": 60.0,
        "refusal_p99_ms": 2.0,
        "refusal_max_ms": 12.0,
        "late_p99_ms": 0.6,
        "late_max_ms": 4.0,
        "client_cpu_share": 0.3,
    }
    return {
        "client": {"calls_per_s": 50_000, "cpu_us_per_call": 9.0},
        "steps": {"1": {**found, "refused_share": 0.0}},
        "best_goodput_per_s": 2_100.0,
        "capacity_per_s": 3_000.0,
        "overload": {"figures": found, "rss_mb": [500.0] * 8},
    }


def test_goals_hold_the_overload_against_the_best_of_all_rates():
    by_text = {check.text: check for check in goals(kedge())}
    assert by_text["goodput at 3x, of the best"].reached
    assert by_text["p99 of accepted requests"].reached
    assert by_text["p99 of refusals"].reached
    assert not by_text["longest refusal"].reached
    assert by_text["memory growth"].reached
    assert not goals(kedge(goodput=1_800.0))[0].reached
    assert goals({"absent": "not installed"}) == []


def test_report_has_a_line_per_rate_and_says_what_the_client_took():
    servers = {"kedge": kedge(), "triton": {"absent": "no | wheel\nmore"}}
    row = {
        "date": "2024-05-06",
        "settings": {"seconds": 60.0, "step_seconds": 5.0},
        "servers": servers,
        "machine": MACHINE,
    }
    report = markdown(row, goals(servers["kedge"]))
    assert "| Kedge, 1x | 9,000 | 2,000 | 0.0% | 0.0% | 60 | – |  |" in report
    assert "| Kedge, 3x | 9,000 | 2,000 | 70.0% | 0.0% | 60 | 2.0 / 12.0 | 500 to 500 |" in report
    assert "| Triton | absent: no / wheel |" in report
    assert "50,000 calls/s at 9 µs" in report


def test_queue_empties_well_within_the_deadline_and_streams_hold_more_than_it():
    assert overload.QUEUE_REQUESTS / overload.NOMINAL_PER_S < overload.DEADLINE_S / 2
    # Even if every call of a whole deadline at 3x stayed open.
    in_flight = overload.OVERLOAD * overload.NOMINAL_PER_S * overload.DEADLINE_S
    assert in_flight < overload.CONNECTIONS * 100
