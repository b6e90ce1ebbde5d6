"""A run of serve.py in words: the goals it is held against, and Markdown tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from _harness import describe

IN_FLIGHT = (1, 16, 64, 256)


@dataclass(frozen=True)
class Goal:
    """A ratio of one measure of Kedge to the same measure of a peer, in the same run."""

    text: str
    measure: str
    peer: str
    bound: float
    at_least: bool = False

    def reached(self, ratio: float) -> bool:
        """Whether the ratio is on the right side of the bound; the bound itself is."""
        return ratio >= self.bound if self.at_least else ratio <= self.bound


GOALS = (
    Goal("server CPU, 64 in flight, to Triton", "h2load_64.cpu_us_per_request", "triton", 1 / 3),
    Goal("the same, stretch", "h2load_64.cpu_us_per_request", "triton", 1 / 4),
    Goal(
        "server CPU, 64 in flight, to grpc.aio", "h2load_64.cpu_us_per_request", "grpc_aio", 1 / 8
    ),
    Goal("p50, 1 in flight, to Triton", "h2load_1.p50_us", "triton", 0.6),
    Goal(
        "perf_analyzer throughput, 16 in flight, to Triton",
        "perf_analyzer_16.requests_per_s",
        "triton",
        2.0,
        at_least=True,
    ),
)


def goal_rows(servers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each goal with its ratio of medians and the lowest and highest ratio within one round.

    ratio is None where one of the two servers, or the load tool, was absent.
    """
    return [_goal_row(goal, servers) for goal in GOALS]


def _goal_row(goal: Goal, servers: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"goal": goal.text, "bound": goal.bound, "at_least": goal.at_least}
    ours, theirs = (servers.get(name, {}) for name in ("kedge", goal.peer))
    try:
        ratio = ours["median"][goal.measure] / theirs["median"][goal.measure]
    except KeyError:
        return {**row, "ratio": None, "reached": None}
    by_round = [
        mine[goal.measure] / other[goal.measure]
        for mine, other in zip(ours["rounds"], theirs["rounds"], strict=False)
    ]
    spread = {"ratio_min": min(by_round), "ratio_max": max(by_round)}
    return {**row, "ratio": ratio, **spread, "reached": goal.reached(ratio)}


def markdown(row: Mapping[str, Any]) -> str:
    """The whole report of one result row."""
    settings = row["settings"]
    how = (
        f"{row['date'][:10]}, medians of {settings['rounds']} interleaved rounds of "
        f"{settings['seconds']:g} s, {row['load_tool']}: {describe(row['machine'])}."
    )
    parts = [
        server_table(row["servers"]),
        goal_table(row["goals"]),
        codec_line(row["servers"]),
        how,
    ]
    return "\n\n".join(part for part in parts if part)


def server_table(servers: Mapping[str, Any]) -> str:
    """One line per server; an absent one says why."""
    lines = [
        "| server | CPU µs/request | requests/s | p50 / p99 ms, 1 in flight | 16 | 64 | 256 | MB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for server in servers.values():
        figures = server["median"]
        if figures:
            cells = [f"{figures['h2load_64.cpu_us_per_request']:.1f}"]
            cells.append(f"{figures['h2load_64.requests_per_s']:,.0f}")
            cells += [_latency(figures, in_flight) for in_flight in IN_FLIGHT]
            cells.append(f"{figures['pss_mb']:.0f}")
            lines.append(f"| {server['label']} | {' | '.join(cells)} |")
        if "absent" in server:
            reason = server["absent"].partition("\n")[0].replace("|", "/")[:200]
            lines.append(f"| {server['label']} | absent: {reason} |" + " |" * 6)
    return "\n".join(lines)


def goal_table(goals: list[dict[str, Any]]) -> str:
    """One line per goal, with the spread over the rounds."""
    lines = ["| Kedge's ratio | goal | measured | rounds | |", "|---|--:|--:|--:|---|"]
    for goal in goals:
        bound = f"{'≥' if goal['at_least'] else '≤'} {goal['bound']:.3g}"
        if goal["ratio"] is None:
            lines.append(f"| {goal['goal']} | {bound} | not measured | | |")
            continue
        spread = f"{goal['ratio_min']:.3f} to {goal['ratio_max']:.3f}"
        verdict = "reached" if goal["reached"] else "**missed**"
        lines.append(f"| {goal['goal']} | {bound} | {goal['ratio']:.3f} | {spread} | {verdict} |")
    return "\n".join(lines)


def codec_line(servers: Mapping[str, Any]) -> str:
    """How Kedge decoded the requests; empty if it did not say."""
    rounds = servers.get("kedge", {}).get("rounds", [])
    fast, protobuf = (
        sum(measures.get(f"h2load.codec_{path}", 0) for measures in rounds)
        for path in ("fast", "protobuf")
    )
    if fast + protobuf == 0:
        return ""
    return f"Kedge decoded {fast:,.0f} requests by its codec and {protobuf:,.0f} by protobuf."


def _latency(figures: Mapping[str, float], in_flight: int) -> str:
    p50_us, p99_us = (figures[f"h2load_{in_flight}.{name}_us"] for name in ("p50", "p99"))
    return f"{p50_us / 1000:.2f} / {p99_us / 1000:.2f}"
