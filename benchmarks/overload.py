"""What happens at three times the capacity: who is answered, how soon are the others refused?

An open loop of independent arrivals, each with a deadline of 100 ms, at a model that takes 5 ms a
batch of at most 16 rows, in a worker process behind a queue of 128 requests; Triton with the same
model and its default queue beside it. Expected of Kedge at 3x for 60 s: at least 90 % of the best
goodput (answers within the deadline per second) at any rate, p99 of accepted requests within the
deadline, refusals in under 10 ms, memory flat.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
from _checks import Check, check_table, exit_code
from _harness import (
    BENCHMARKS_PAGE,
    BenchmarkFailed,
    console,
    how,
    keep_result,
    replace_block,
    result_row,
    run_benchmark,
    show,
    write_block,
)
from _kedge import Endpoint, serve_endpoints, torchscript_endpoints
from _openloop import NEVER_SENT, OK, REFUSALS, Outcome, open_loop, poisson
from _processes import ending_on_signals
from _servers import Server
from _wire import MODEL, MODELS, check_answer, infer_request, payload
from peers import SERVERS, start_triton, write_triton_model

SLOW = "slow"
# 16 rows each 5 ms.
NOMINAL_PER_S = 3_200.0
DEADLINE_S = 0.1
# Eight batches: 40 ms, well within the deadline.
QUEUE_REQUESTS = 128
# Kedge and h2 servers alike allow some 100 calls each: 1,600 in flight, more than ever are.
CONNECTIONS = 16
STEPS = (0.5, 0.8, 0.9, 1.0, 1.1)
OVERLOAD = 3.0
# Own capacity of the client, from calls that are all due at once.
CLIENT_CALLS = 30_000
CLIENT_DEADLINE_S = 30.0
SAMPLE_S = 1.0
GOODPUT_SHARE_MIN = 0.9
REFUSAL_MS_MAX = 10.0
GROWTH_MB_MAX = 5.0


@dataclass(frozen=True)
class Figures:
    """One open loop in figures. NaN where nothing was accepted or refused.

    answered_per_s: OK at any time; goodput_per_s: OK within the deadline. lost: calls that ended in
    any other way than OK or a refusal, or never left the client. late_ms: how late calls left.
    """

    offered_per_s: float
    answered_per_s: float
    goodput_per_s: float
    refused_share: float
    lost_share: float
    accepted_p99_ms: float
    refusal_p99_ms: float
    refusal_max_ms: float
    late_p99_ms: float
    late_max_ms: float
    client_cpu_share: float


def figures(outcome: Outcome, deadline_s: float) -> Figures:
    """Every latency counts from when the call was due."""
    status, latency_s = outcome.status, outcome.done_s - outcome.due_s
    is_ok, is_refused = status == OK, np.isin(status, REFUSALS)
    late_s = (outcome.sent_s - outcome.due_s)[status != NEVER_SENT]
    return Figures(
        offered_per_s=len(status) / outcome.seconds,
        answered_per_s=float(is_ok.sum()) / outcome.seconds,
        goodput_per_s=float((is_ok & (latency_s <= deadline_s)).sum()) / outcome.seconds,
        refused_share=float(is_refused.mean()),
        lost_share=float((~is_ok & ~is_refused).mean()),
        accepted_p99_ms=percentile_ms(latency_s[~is_refused], 99),
        refusal_p99_ms=percentile_ms(latency_s[is_refused], 99),
        refusal_max_ms=percentile_ms(latency_s[is_refused], 100),
        late_p99_ms=percentile_ms(late_s, 99),
        late_max_ms=percentile_ms(late_s, 100),
        client_cpu_share=outcome.client_cpu_s / outcome.seconds,
    )


def percentile_ms(seconds: np.ndarray[Any, np.dtype[np.float64]], percent: float) -> float:
    """NaN of no values."""
    return float(np.percentile(seconds, percent)) * 1000 if len(seconds) else float("nan")


def growth_mb(rss_mb: list[float]) -> float:
    """Memory of the last quarter over the second: the first fills queues and buffers. 0 of few."""
    quarter = len(rss_mb) // 4
    if quarter == 0:
        return 0.0
    return float(np.mean(rss_mb[-quarter:]) - np.mean(rss_mb[quarter : 2 * quarter]))


def main() -> int:
    """Measures and shows; 1 if a goal is missed."""
    options = parse_options()
    if options.write_readme:
        replace_block(BENCHMARKS_PAGE.read_text(), "overload", "")
    measured: dict[str, Any] = {}
    with ending_on_signals(), tempfile.TemporaryDirectory(prefix="kedge-") as folder:
        for name in options.servers:
            own_folder = Path(folder, name)
            own_folder.mkdir()
            try:
                measured[name] = measure(name, own_folder, options)
            except BenchmarkFailed as failure:
                console.print(f"[red]{name}[/]: {failure}", highlight=False)
                measured[name] = {"absent": str(failure)}
    checks = goals(measured.get("kedge", {}))
    settings = {"seconds": options.seconds, "step_seconds": options.step_seconds}
    found = {"settings": settings, "servers": measured, "checks": [one.row() for one in checks]}
    row = result_row("overload", found)
    report = markdown(row, checks)
    show(report)
    keep_result(row, options.quick)
    if options.write_readme:
        write_block(BENCHMARKS_PAGE, "overload", report)
    return exit_code(checks) if checks else 2


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the overload")
    parser.add_argument("--step-seconds", type=float, default=5.0, help="of each lower rate")
    parser.add_argument("--servers", nargs="+", choices=list(STARTS), default=list(STARTS))
    parser.add_argument("--quick", action="store_true", help="8 s of overload, Kedge only")
    parser.add_argument("--write-readme", action="store_true", help="table into the page")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.step_seconds, options.servers = 8.0, 2.0, ["kedge"]
    return options


# The servers


def start_kedge(folder: Path) -> Server:
    """The slow model in a worker process, and an inline one to measure the client with."""
    endpoints, program = folder / "endpoints", folder / "model.py"
    endpoints.mkdir()
    copyfile(SERVERS / "sleeping.py", program)
    # As it is: a compiled one would have slept once, at its compilation.
    serving = {"compile": "none", "queue": {"max_queued_requests": QUEUE_REQUESTS}}
    endpoint = Endpoint(SLOW, str(program), MODELS[SLOW], "workers", serving)
    (endpoints / f"{SLOW}.yaml").write_text(endpoint.document())
    expected = {**torchscript_endpoints(endpoints, [MODEL]), SLOW: payload(SLOW)}
    return serve_endpoints(endpoints, folder, expected, "kedge", "--allow-model-code")


def start_triton_slow(folder: Path) -> Server:
    """Triton's python backend with the same model; its queue has no bound by default."""
    write_triton_model(folder / "repository", SLOW, SERVERS / "triton_sleeping.py")
    return start_triton(folder, folder / "repository")


STARTS: dict[str, Callable[[Path], Server]] = {"kedge": start_kedge, "triton": start_triton_slow}


@contextmanager
def running(name: str, folder: Path) -> Iterator[Server]:
    """One of the servers, which answers the slow model; ended when the block is left."""
    with console.status(f"[bold]{name}[/]: starting"):
        server = STARTS[name](folder)
    try:
        check_answer(server.address, payload(SLOW), SLOW)
        yield server
    finally:
        server.process.stop()


# The measurement


def measure(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All rates of one server, the overload last."""
    # The client has a process and so a core of its own; this one looks at the memory meanwhile.
    client = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with client, running(name, folder) as server:
        result: dict[str, Any] = {}
        if MODEL in server.expected and name == "kedge":
            result["client"] = measure_client(client, server)
        steps: dict[str, Any] = {}
        for step in STEPS:
            rate = step * NOMINAL_PER_S
            steps[f"{step:g}"] = measure_rate(client, server, rate, options.step_seconds)["figures"]
            console.print(f"{name} at {rate:,.0f}/s: {steps[f'{step:g}']['goodput_per_s']:,.0f}/s")
        result["steps"] = steps
        result["best_goodput_per_s"] = max(one["goodput_per_s"] for one in steps.values())
        result["capacity_per_s"] = max(one["answered_per_s"] for one in steps.values())
        rate = OVERLOAD * result["capacity_per_s"]
        result["overload"] = measure_rate(client, server, rate, options.seconds)
        return result


def measure_client(client: ProcessPoolExecutor, server: Server) -> dict[str, float]:
    """What the client itself can do: calls that are all due at once, at a model that is fast."""
    message = infer_request(MODEL).SerializeToString()
    due_s = np.linspace(0.0, 1e-6, CLIENT_CALLS)
    outcome = client.submit(
        open_loop, server.address, message, due_s, CLIENT_DEADLINE_S, CONNECTIONS
    ).result()
    rate = len(due_s) / float(outcome.done_s.max())
    cpu_us = outcome.client_cpu_s / len(due_s) * 1e6
    console.print(f"client alone: {rate:,.0f} calls/s, {cpu_us:.1f} us of CPU per call")
    return {"calls_per_s": round(rate), "cpu_us_per_call": round(cpu_us, 2)}


def measure_rate(
    client: ProcessPoolExecutor, server: Server, rate_per_s: float, seconds: float
) -> dict[str, Any]:
    """One open loop at the slow model, and the memory of the server's processes meanwhile."""
    message = infer_request(SLOW).SerializeToString()
    due_s = poisson(rate_per_s, seconds)
    load = client.submit(open_loop, server.address, message, due_s, DEADLINE_S, CONNECTIONS)
    rss_mb: list[float] = []
    with console.status(f"[bold]{server.name}[/]: {rate_per_s:,.0f}/s for {seconds:g} s"):
        while not load.done():
            rss_mb.append(round(server.process.rss_bytes() / 1e6, 2))
            time.sleep(SAMPLE_S)
    measured = asdict(figures(load.result(), DEADLINE_S))
    return {
        "figures": {name: round(value, 4) for name, value in measured.items()},
        "rss_mb": rss_mb,
    }


# The report


def goals(kedge: dict[str, Any]) -> list[Check]:
    """What Kedge promises in overload; [] if it was not measured."""
    if "overload" not in kedge:
        return []
    found = kedge["overload"]["figures"]
    share = found["goodput_per_s"] / kedge["best_goodput_per_s"]
    return [
        Check("goodput at 3x, of the best", share, GOODPUT_SHARE_MIN, at_least=True),
        Check("p99 of accepted requests", found["accepted_p99_ms"], DEADLINE_S * 1000, "ms"),
        Check("p99 of refusals", found["refusal_p99_ms"], REFUSAL_MS_MAX, "ms"),
        Check("longest refusal", found["refusal_max_ms"], REFUSAL_MS_MAX, "ms"),
        Check("memory growth", growth_mb(kedge["overload"]["rss_mb"]), GROWTH_MB_MAX, "MB"),
    ]


def markdown(row: dict[str, Any], checks: list[Check]) -> str:
    """Goals, then one line per rate of each server."""
    lines = [
        "| server, load | offered/s | in time/s | refused | lost | p99 ms, accepted "
        "| p99 / longest ms, refused | MB, first to last |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, server in row["servers"].items():
        label = name.capitalize()
        if "absent" in server:
            reason = server["absent"].partition("\n")[0].replace("|", "/")[:200]
            lines.append(f"| {label} | absent: {reason} | | | | | | |")
            continue
        for step, found in server["steps"].items():
            lines.append(_line(f"{label}, {step}x", found, ""))
        rss_mb = server["overload"]["rss_mb"]
        memory = f"{rss_mb[0]:.0f} to {rss_mb[-1]:.0f}"
        lines.append(_line(f"{label}, {OVERLOAD:g}x", server["overload"]["figures"], memory))
    parts = [check_table(checks), "\n".join(lines), _client_line(row), _how(row)]
    return "\n\n".join(part for part in parts if part)


def _line(label: str, found: dict[str, float], memory: str) -> str:
    refusals = "–"
    if found["refused_share"] > 0:
        refusals = f"{found['refusal_p99_ms']:.1f} / {found['refusal_max_ms']:.1f}"
    return (
        f"| {label} | {found['offered_per_s']:,.0f} | {found['goodput_per_s']:,.0f} "
        f"| {found['refused_share']:.1%} | {found['lost_share']:.1%} "
        f"| {found['accepted_p99_ms']:.0f} | {refusals} | {memory} |"
    )


def _client_line(row: dict[str, Any]) -> str:
    """What the client can do, and how late it was; empty if Kedge was not measured."""
    kedge = row["servers"].get("kedge", {})
    if "client" not in kedge:
        return ""
    client, found = kedge["client"], kedge["overload"]["figures"]
    return (
        f"The client alone makes {client['calls_per_s']:,.0f} calls/s at "
        f"{client['cpu_us_per_call']:.0f} µs of CPU each; at 3x it took "
        f"{found['client_cpu_share']:.0%} of a core, and calls left {found['late_p99_ms']:.1f} ms "
        f"late at p99, {found['late_max_ms']:.1f} ms at most, which counts as the server's time."
    )


def _how(row: dict[str, Any]) -> str:
    settings = row["settings"]
    return how(row, f"{settings['seconds']:g} s of overload, {settings['step_seconds']:g} s a step")


if __name__ == "__main__":
    run_benchmark(main)
