"""The picture of a serve.py run: CPU per request, throughput and latency of every server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _harness import console
from _report import IN_FLIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "kedge": "#0b7a75",
    "kedge_workers": "#56b8a5",
    "grpc_aio": "#8d99ae",
    "triton": "#e09f3e",
    "mlserver": "#6d597a",
    "ray": "#9e2a2b",
}


def plot(row: Mapping[str, Any], path: Path) -> None:
    """Draws the medians of a result row into an SVG file; without matplotlib, says so."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        console.print("no plot: pip install 'kedge[bench]'")
        return
    servers = {name: server for name, server in row["servers"].items() if server["median"]}
    # A fixed salt makes the ids, and so the file, the same for the same figures.
    plt.rcParams.update({"svg.hashsalt": "kedge", "font.size": 9, "axes.spines.top": False})
    plt.rcParams["axes.spines.right"] = False
    figure, (cpu, throughput, latency) = plt.subplots(
        1, 3, figsize=(11, 3.9), layout="constrained", width_ratios=[1.1, 1, 1]
    )
    _draw_cpu(cpu, servers)
    _draw_throughput(throughput, servers)
    _draw_latency(latency, servers)
    figure.legend(*throughput.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _draw_cpu(axes: Axes, servers: Mapping[str, Any]) -> None:
    names = list(servers)[::-1]
    values = [servers[name]["median"]["h2load_64.cpu_us_per_request"] for name in names]
    bars = axes.barh(
        [servers[name]["label"].replace(", ", "\n", 1) for name in names],
        values,
        color=[COLOURS[name] for name in names],
    )
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.margins(x=0.15)
    axes.set_title("server CPU, µs per request\n64 in flight, less is better")


def _draw_throughput(axes: Axes, servers: Mapping[str, Any]) -> None:
    for name, server in servers.items():
        values = [server["median"][f"h2load_{n}.requests_per_s"] for n in IN_FLIGHT]
        axes.plot(IN_FLIGHT, values, "o-", color=COLOURS[name], label=server["label"])
    axes.set_ylim(bottom=0)
    _label_in_flight(axes)
    axes.set_title("requests per second\nmore is better")


def _draw_latency(axes: Axes, servers: Mapping[str, Any]) -> None:
    for name, server in servers.items():
        for percentile, line in (("p50", "o-"), ("p99", ".:")):
            values = [server["median"][f"h2load_{n}.{percentile}_us"] / 1000 for n in IN_FLIGHT]
            axes.plot(IN_FLIGHT, values, line, color=COLOURS[name])
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    _label_in_flight(axes)
    axes.set_title("latency, ms: p50 solid, p99 dotted\nless is better")


def _label_in_flight(axes: Axes) -> None:
    axes.set_xscale("log", base=4)
    axes.set_xticks(IN_FLIGHT, [str(count) for count in IN_FLIGHT])
    axes.minorticks_off()
    axes.set_xlabel("requests in flight")
