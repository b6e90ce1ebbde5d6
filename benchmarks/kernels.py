"""What do the statistics cost, next to the libraries that people use for them?

Every contest has Kedge and its peers in one process, in turn in every round, on rows that none has
seen before (repeated rows train the branch predictor: 7 against 31 ns a value), in CPU time.
Expected: the bounds of each contest, in kernel_rows/*.py; a missed one says so.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from _harness import (
    REPOSITORY,
    console,
    how,
    keep_result,
    result_row,
    run_benchmark,
    show,
    write_block,
)
from kernel_rows._contest import Contest, Peer

DOCS = REPOSITORY / "docs"
PICTURE = DOCS / "img" / "bench_kernels.svg"
PACKAGES = ("scipy", "datasketches", "scikit-learn", "river", "evidently", "pandas")


def main() -> int:
    """Measures, prints and keeps the result; 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contestant")
    parser.add_argument("--only", nargs="*", help="keys of the contests to run")
    parser.add_argument("--quick", action="store_true", help="3 rounds, nothing is kept")
    parser.add_argument("--write-readme", action="store_true", help="table and plot into docs/")
    options = parser.parse_args()
    os.environ["DO_NOT_TRACK"] = "1"  # Evidently reports its use otherwise
    row = result_row("kernels", measure_all(3 if options.quick else options.rounds, options.only))
    keep_result(row, options.quick)
    report = markdown(row)
    show(report)
    if options.write_readme:
        write_block(DOCS / "statistics.md", "kernels", report)
        plot(row, PICTURE)
    missed = [b for c in row["contests"] for b in c["bounds"] if b["reached"] is False]
    return 1 if missed else 0


def measure_all(rounds: int, only: list[str] | None) -> dict[str, Any]:
    """All contests of kernel_rows/."""
    contests = [
        contest
        for path in sorted((Path(__file__).parent / "kernel_rows").glob("[!_]*.py"))
        for contest in importlib.import_module(f"kernel_rows.{path.stem}").contests()
        if not only or contest.key in only
    ]
    results = []
    for contest in contests:
        with console.status(f"[bold]{contest.title}"):
            results.append(measure(contest, rounds))
        shown = {name: found.get("median") for name, found in results[-1]["contestants"].items()}
        console.print(f"{contest.key}: {shown} {contest.unit}", markup=False, highlight=False)
    versions = {name: version(name) for name in PACKAGES}
    return {"rounds": rounds, "peers": versions, "contests": results}


def measure(contest: Contest, rounds: int) -> dict[str, Any]:
    """Each contestant once per round; the first, unmeasured one compiles and warms."""
    times: dict[str, list[float]] = {}
    absent: dict[str, str] = {}
    for turn in range(-1, rounds):
        for name, peer in contest.contestants.items():
            if name in absent or turn >= min(rounds, peer.rounds_max):
                continue
            try:
                cost = one_turn(peer, turn + 1) * contest.scale
            except ImportError as error:
                absent[name] = f"absent: {error}"
                continue
            if turn >= 0:
                times.setdefault(name, []).append(cost)
    found: dict[str, Any] = {
        name: {"median": float(f"{median(costs):.4g}"), "least": float(f"{min(costs):.4g}")}
        for name, costs in times.items()
    }
    found |= {name: {"absent": why} for name, why in absent.items()}
    return {
        "key": contest.key,
        "title": contest.title,
        "unit": contest.unit,
        "contestants": found,
        "bounds": [bound.judged(times) for bound in contest.bounds],
    }


def one_turn(peer: Peer, turn: int) -> float:
    """CPU seconds of one operation, on data made for this turn."""
    prepared = peer.prepare(turn)
    if isinstance(prepared, float):
        return prepared
    run, operations = prepared
    start_ns = time.process_time_ns()
    run()
    return (time.process_time_ns() - start_ns) / 1e9 / operations


def markdown(result: dict[str, Any]) -> str:
    """One line per contest: Kedge, each peer and how many times as much it costs, the bounds."""
    lines = ["| contest | Kedge | peers | bound | |", "|---|--:|---|---|---|"]
    for contest in result["contests"]:
        own = contest["contestants"].get("kedge", {}).get("median")
        peers = [
            f"{name} {found['median']:,.4g} ({found['median'] / own:,.0f}x)"
            if "median" in found
            else f"{name} {found['absent']}"
            for name, found in contest["contestants"].items()
            if name != "kedge"
        ]
        bounds = [f"{bound['text']}: {bound['measured']}" for bound in contest["bounds"]]
        reached = {bound["reached"] for bound in contest["bounds"]}
        verdict = "**missed**" if False in reached else "reached" if True in reached else ""
        lines.append(
            f"| {contest['title']}, {contest['unit']} | {own:,.4g} | {'; '.join(peers)} | "
            f"{'; '.join(bounds)} | {verdict} |"
        )
    versions = ", ".join(f"{name} {found}" for name, found in result["peers"].items())
    settings = f"medians of {result['rounds']} interleaved rounds, CPU time, {versions}"
    return "\n".join([*lines, "", how(result, settings)])


def plot(result: dict[str, Any], path: Path) -> None:
    """How many times as much CPU each peer takes, on a log scale."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        console.print("no plot: pip install 'kedge[bench]'")
        return
    bars = [
        (f"{contest['title']}\n{name}", found["median"] / contest["contestants"]["kedge"]["median"])
        for contest in result["contests"]
        for name, found in contest["contestants"].items()
        if name != "kedge" and "median" in found
    ][::-1]
    plt.rcParams.update({"svg.hashsalt": "kedge", "font.size": 8})
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(bars) + 1), layout="constrained")
    drawn = axes.barh([name for name, _ in bars], [ratio for _, ratio in bars], color="#8d99ae")
    axes.bar_label(drawn, fmt="{:,.0f}x", padding=3)
    axes.axvline(1, color="#0b7a75", linewidth=2)
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_title("CPU time of peers, in multiples of Kedge's (the green line)")
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def version(package: str) -> str:
    """Of an installed package, or "absent"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    run_benchmark(main)
