"""A run of serve.py in words: the goals it is held against, and Markdown tables. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from _harness import how

# Calls in flight, per payload.
IN_FLIGHT = (1, 16, 64, 256)
IMAGE_IN_FLIGHT = (1, 4, 16)
STRINGS_IN_FLIGHT = (1, 64)
LOADS: Mapping[str, Sequence[int]] = {
    "bench": IN_FLIGHT,
    "image": IMAGE_IN_FLIGHT,
    "strings": STRINGS_IN_FLIGHT,
}
# An image request and its answer, both whole in memory, with the most that are in flight.
IMAGE_MB_IN_FLIGHT = 16 * 2 * 3 * 224 * 224 * 4 / 1e6

# The columns of one server's line, without its label.
Cells = Callable[[Mapping[str, Any]], list[str]]


@dataclass(frozen=True)
class Goal:
    """A ratio of one measure of Kedge to the same measure of a peer, in the same run.

    stretch: wished for, and no failure if it is missed.
    """

    text: str
    measure: str
    peer: str
    bound: float
    at_least: bool = False
    ours: str = "kedge"
    stretch: bool = False

    def reached(self, ratio: float) -> bool:
        """Whether the ratio is on the right side of the bound; the bound itself is."""
        return ratio >= self.bound if self.at_least else ratio <= self.bound


CPU_64 = "h2load_64.cpu_us_per_request"
GOALS = (
    Goal("server CPU, 64 in flight, to Triton", CPU_64, "triton", 1 / 3),
    Goal("the same, stretch", CPU_64, "triton", 1 / 4, stretch=True),
    Goal("server CPU, 64 in flight, to grpc.aio", CPU_64, "grpc_aio", 1 / 8),
    Goal(
        "server CPU, 64 in flight, worker process, to Triton",
        CPU_64,
        "triton",
        1 / 2,
        ours="kedge_workers",
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
IMAGE_GOALS = tuple(
    Goal(
        f"requests/s, {in_flight} in flight, {placement}, to Triton",
        f"image.h2load_{in_flight}.requests_per_s",
        "triton",
        1.0,
        at_least=True,
        ours=ours,
    )
    for ours, placement in (("kedge", "inline"), ("kedge_workers", "worker process"))
    for in_flight in IMAGE_IN_FLIGHT
)


def measure_prefix(model: str) -> str:
    """How the names of a payload's measures begin; those of `bench` have no prefix."""
    return "" if model == "bench" else f"{model}."


def goal_rows(servers: Mapping[str, Any], goals: Sequence[Goal] = GOALS) -> list[dict[str, Any]]:
    """Each goal with its ratio of medians and the lowest and highest ratio within one round.

    ratio is None where one of the two servers, or the load tool, was absent.
    """
    return [_goal_row(goal, servers) for goal in goals]


def _goal_row(goal: Goal, servers: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "goal": goal.text,
        "bound": goal.bound,
        "at_least": goal.at_least,
        "stretch": goal.stretch,
    }
    ours, theirs = (servers.get(name, {}) for name in (goal.ours, goal.peer))
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


def is_missed(goals: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a goal that was measured, and is no stretch, was missed."""
    return any(goal["reached"] is False and not goal["stretch"] for goal in goals)


def markdown(row: dict[str, Any]) -> str:
    """The short report of one result row: the small payload and its goals."""
    parts = [
        server_table(row["servers"]),
        goal_table(row["goals"]),
        codec_line(row["servers"]),
        _how(row),
    ]
    return "\n\n".join(part for part in parts if part)


def markdown_payloads(row: dict[str, Any]) -> str:
    """The other payloads of the same run: images with their goals, and strings."""
    servers, measured = row["servers"], row["settings"]["payloads"]
    parts = []
    if "image" in measured:
        parts += [
            "**[1, 3, 224, 224] FP32**, 602 KB in each direction. Growth is the highest of a "
            f"round; what {max(IMAGE_IN_FLIGHT)} requests and answers hold is "
            f"{IMAGE_MB_IN_FLIGHT:.0f} MB.",
            payload_table(servers, "image"),
            goal_table(row["image_goals"]),
        ]
    if "strings" in measured:
        parts += [
            "**[1, 4] BYTES**, four strings of 3 to 43 bytes.",
            payload_table(servers, "strings"),
        ]
    return "\n\n".join([*parts, _how(row)])


def _how(row: dict[str, Any]) -> str:
    settings = row["settings"]
    rounds = f"medians of {settings['rounds']} interleaved rounds of {settings['seconds']:g} s"
    return how(row, f"{rounds}, {row['load_tool']}")


def server_table(servers: Mapping[str, Any]) -> str:
    """One line per server for the small payload; an absent one says why."""
    columns = ["CPU µs/request", "requests/s", "p50 / p99 ms, 1 in flight", "16", "64", "256", "MB"]

    def cells(server: Mapping[str, Any]) -> list[str]:
        figures = server["median"]
        return [
            f"{figures[CPU_64]:.1f}",
            f"{figures['h2load_64.requests_per_s']:,.0f}",
            *[_latency(figures, in_flight) for in_flight in IN_FLIGHT],
            f"{figures['pss_mb']:.0f}",
        ]

    return _table(servers, columns, cells)


def payload_table(servers: Mapping[str, Any], model: str) -> str:
    """One line per server for one of the other payloads; an absent one says why."""
    prefix, counts = measure_prefix(model), LOADS[model]
    first, *others = (str(count) for count in counts)
    columns = [f"requests/s, {first} in flight", *others]
    columns += [f"p50 / p99 ms, {first} in flight", *others]
    columns += [f"CPU µs/request, {counts[-1]} in flight", "memory growth MB"]

    def cells(server: Mapping[str, Any]) -> list[str]:
        figures = server["median"]
        growth_mb = max(measures[f"{prefix}peak_growth_mb"] for measures in server["rounds"])
        return [
            *[f"{figures[f'{prefix}h2load_{n}.requests_per_s']:,.0f}" for n in counts],
            *[_latency(figures, n, prefix) for n in counts],
            f"{figures[f'{prefix}h2load_{counts[-1]}.cpu_us_per_request']:,.1f}",
            f"{growth_mb:,.0f}",
        ]

    return _table(servers, columns, cells)


def _table(servers: Mapping[str, Any], columns: Sequence[str], cells: Cells) -> str:
    lines = [f"| server | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
    for server in servers.values():
        if server["median"]:
            lines.append(f"| {server['label']} | {' | '.join(cells(server))} |")
        if "absent" in server:
            reason = server["absent"].partition("\n")[0].replace("|", "/")[:200]
            lines.append(f"| {server['label']} | absent: {reason} |" + " |" * (len(columns) - 1))
    return "\n".join(lines)


def goal_table(goals: Sequence[Mapping[str, Any]]) -> str:
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


def _latency(figures: Mapping[str, float], in_flight: int, prefix: str = "") -> str:
    p50_us, p99_us = (figures[f"{prefix}h2load_{in_flight}.{name}_us"] for name in ("p50", "p99"))
    return f"{p50_us / 1000:.2f} / {p99_us / 1000:.2f}"
