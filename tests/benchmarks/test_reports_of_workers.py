"""The reports of hop.py, isolation.py and memory.py; the figures in them are made up."""

import hop
import isolation
import memory
from _checks import Check

from support.benchmark_machine import MACHINE

STAMP = {"date": "2024-05-06", "machine": MACHINE}


def test_hop_report_has_every_size_both_ways_and_the_whole_request_by_placement():
    figures = {"p50_us": 80.0, "p99_us": 1_500.0, "model_p50_us": 12.0, "batches": 10}
    names = [f"{size.text}{end}" for size in hop.SIZES for end in ("", "-copy")]
    load = {"p50_us": 200.0, "p99_us": 300.0}
    row = {
        **STAMP,
        "settings": {"seconds": 3.0},
        "hops": dict.fromkeys(names, figures),
        "whole": {way: dict.fromkeys(hop.WHOLE, load) for way in hop.WAYS},
    }
    report = hop.markdown(row, [Check("p50", 80.0, 100.0, "µs")])
    assert report.count("| 80 | 1,500 | 12 |") == 6
    assert "| 38 MB, answer in new memory | 80 |" in report
    assert "| 600 KB | 200 / 300 | 200 / 300 |" in report


def test_hop_sizes_are_what_they_are_called():
    sizes = {
        size.text: size.rows * 4 * int(hop.np.prod(hop.MODELS[size.model].input_dims))
        for size in hop.SIZES
    }
    assert sizes == {"8 KB": 8_192, "600 KB": 602_112, "38 MB": 38_535_168}


def test_isolation_report_shows_each_scene_with_its_rounds_and_its_neighbours():
    found = {"p50_us": 120.0, "p99_us": 500.0, "requests_per_s": 4_000.0}
    busy = {"heavy_per_s": 9.5, "spinning_per_s": 19.0}
    scenes = {
        scene: {**found, **{f"{name}_per_s": busy[f"{name}_per_s"] for name in neighbours}}
        for scene, neighbours in isolation.SCENES.items()
    }
    row = {
        **STAMP,
        "settings": {"rounds": 2, "seconds": 8.0},
        "scenes": scenes,
        "rounds": {scene: [found, {**found, "p99_us": 700.0}] for scene in scenes},
    }
    report = isolation.markdown(row, [])
    assert "| alone | 0.12 | 0.50 | 0.50, 0.70 | 4,000 | – |" in report
    assert "| 4,000 | heavy 9.5, spinning 19 |" in report


def flood(**changes):
    found = {
        "case": "flood, inline",
        "from": "one connection",
        "answered": 231,
        "refused": 69,
        "unanswered": 0,
        "peak_growth_mib": 800.0,
        "after_mib": 400.0,
        "bound_mib": 864,
    }
    return {**found, **changes}


def growth(growth_mb=0.2, failures=0):
    return {"successes": 100, "failures": failures, "rss_mb": [1.0], "growth_mb": growth_mb}


def test_memory_goals_are_growth_peaks_and_that_every_request_got_an_answer():
    assert all(check.reached for check in memory.goals({"inline": growth()}, [flood()]))
    for parts, floods in (
        ({"inline": growth(growth_mb=5.1)}, [flood()]),
        ({"inline": growth(failures=1)}, [flood()]),
        ({"inline": growth()}, [flood(peak_growth_mib=864.1)]),
        ({"inline": growth()}, [flood(), flood(unanswered=1)]),
    ):
        assert sum(not check.reached for check in memory.goals(parts, floods)) == 1


def test_memory_report_says_what_became_of_each_flood():
    row = {**STAMP, "requests": 1_000_000, "floods": [flood(), flood(case="hang, workers")]}
    report = memory.markdown(row, [])
    assert "| flood, inline | one connection | 231 | 69 | 400 |" in report
    assert "| hang, workers | one connection |" in report
    assert "1,000,000 requests" in report
