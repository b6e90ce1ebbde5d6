"""A run of gpu.py in words: goals and tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

THROUGHPUT_RATIO_MIN = 0.95
OVERHEAD_US_MAX = 150.0

Measures = dict[str, float]


def medians(rounds: Sequence[Measures]) -> Measures:
    """The median of every measure over the rounds, and what is said of them."""
    middle = {name: median(one[name] for one in rounds) for name in rounds[0]}
    return {**middle, **derived(middle)}


def derived(measures: Measures) -> Measures:
    """Ratios to the bare graph whose inputs are on the device, and time on top of its replay."""
    figures = {}
    for name in ("executor", "served"):
        if f"{name}.rows_per_s" in measures:
            ratio = measures[f"{name}.rows_per_s"] / measures["graph.rows_per_s"]
            figures[f"{name}.ratio"] = ratio
            figures[f"{name}.overhead_us"] = measures[f"{name}.p50_us"] - measures["graph.p50_us"]
    return figures


def goals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every goal for every model and batch; a row that failed reached none."""
    found = []
    for row in rows:
        figures = row.get("median", {})
        where = {"model": row["model"], "batch": row["batch"]}
        ratio = figures.get("served.ratio")
        reached = ratio is not None and ratio >= THROUGHPUT_RATIO_MIN
        found.append({**where, "goal": "throughput", "value": ratio, "reached": reached})
        overhead_us = figures.get("served.overhead_us")
        reached = overhead_us is not None and overhead_us <= OVERHEAD_US_MAX
        found.append({**where, "goal": "overhead_us", "value": overhead_us, "reached": reached})
    return found


def markdown(result: Mapping[str, Any]) -> str:
    """The whole report."""
    gpu, settings = result["gpu"], result["settings"]
    how = (
        f"Medians of {settings['rounds']} rounds of {settings['seconds']:g} s on {gpu['name']}, "
        f"driver {gpu['driver']}, torch {gpu['torch']} for CUDA {gpu['cuda']}."
    )
    return "\n\n".join((throughput_table(result["rows"]), latency_table(result["rows"]), how))


def throughput_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows per second; ratios to the bare graph, inputs on the device."""
    lines = [
        "| model | batch | graph rows/s | with copies | executor | | served | goal ≥ 0.95 |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        figures = row.get("median")
        head = f"| {row['model']} | {row['batch']} |"
        if figures is None:
            lines.append(f"{head} failed: {_one_line(row['failed'])} | | | | | |")
            continue
        cells = [
            f"{figures['graph.rows_per_s']:,.0f}",
            f"{figures['graph_copies.rows_per_s']:,.0f}",
            f"{figures['executor.rows_per_s']:,.0f}",
            f"{figures['executor.ratio']:.3f}",
            f"{figures['served.rows_per_s']:,.0f}",
            f"{figures['served.ratio']:.3f} {_verdict(figures, 'ratio')}",
        ]
        lines.append(f"{head} {' | '.join(cells)} |")
    return "\n".join(lines)


def latency_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Median microseconds of one batch alone; what is added to the bare replay."""
    lines = [
        "| model | batch | graph p50 µs | with copies | executor adds | served adds | ≤ 150 |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        figures = row.get("median")
        if figures is None:
            continue
        cells = [
            f"{figures['graph.p50_us']:,.0f}",
            f"{figures['graph_copies.p50_us']:,.0f}",
            f"{figures['executor.overhead_us']:+,.0f}",
            f"{figures['served.overhead_us']:+,.0f}",
            _verdict(figures, "overhead_us"),
        ]
        lines.append(f"| {row['model']} | {row['batch']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _verdict(figures: Measures, goal: str) -> str:
    if goal == "ratio":
        return "reached" if figures["served.ratio"] >= THROUGHPUT_RATIO_MIN else "missed"
    return "reached" if figures["served.overhead_us"] <= OVERHEAD_US_MAX else "missed"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")[:160]
