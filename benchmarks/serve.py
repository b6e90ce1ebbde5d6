"""What does one request cost, and how long does it take, next to other servers?

Kedge with an MLP, inline and in a worker process, against a grpc.aio echo, Triton's python backend,
MLServer and Ray Serve's own gRPC ingress, one after the other in every round, same request.
Expected: server CPU at 64 in flight at most 1/3 of Triton's and 1/8 of grpc.aio's inline, and half
of Triton's in a worker; p50 with one in flight at most 0.6 of Triton's, and at least twice Triton's
throughput in perf_analyzer at 16 in flight. Images of 602 KB, every server answering its input: no
fewer requests/s than Triton at 1, 4 and 16 in flight. Strings, [1, 4] BYTES: no goal.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import peers
from _harness import (
    BENCHMARKS_PAGE,
    REPOSITORY,
    console,
    keep_result,
    replace_block,
    result_row,
    run_benchmark,
    show,
    write_block,
)
from _load import (
    LoadFailed,
    h2load,
    h2load_version,
    perf_analyzer,
    perf_analyzer_version,
)
from _metrics import codec_paths
from _plot import plot
from _processes import ServerFailed, ending_on_signals
from _report import (
    GOALS,
    IMAGE_GOALS,
    LOADS,
    goal_rows,
    is_missed,
    markdown,
    markdown_payloads,
    measure_prefix,
)
from _servers import Server
from _venvs import PeerAbsent, venv_for
from _wire import MODEL, WrongAnswer, check_answer, infer_request
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

PERF_ANALYZER_IN_FLIGHT = 16
PERF_ANALYZER_SERVERS = frozenset({"kedge", "kedge_workers", "triton"})
WARM_UP_S = 0.5
WARM_UP_IN_FLIGHT = 16
MB = 1e6
README = REPOSITORY / "README.md"
FIGURE = "docs/img/bench_serve.svg"

Measures = dict[str, float]


def main() -> int:
    """Runs the comparison; 1 if a goal is missed, 2 if it cannot be run at all."""
    options = parse_options()
    if h2load_version() is None:
        console.print("h2load is missing: apt-get install nghttp2-client")
        return 2
    if options.write_readme:
        # Before minutes of measuring: raises if a page has no place for its table.
        replace_block(README.read_text(), "serve", "")
        replace_block(BENCHMARKS_PAGE.read_text(), "payloads", "")
    with ending_on_signals(), tempfile.TemporaryDirectory(prefix="kedge-") as folder:
        servers = compare(options, Path(folder))
    settings = {name: getattr(options, name) for name in ("rounds", "seconds", "payloads")}
    measured = {
        "settings": settings,
        "load_tool": h2load_version(),
        "servers": servers,
        "goals": goal_rows(servers, GOALS),
        "image_goals": goal_rows(servers, IMAGE_GOALS),
    }
    row = result_row("serve", measured)
    for report in reports(row).values():
        show(report)
    keep_result(row, options.quick)
    if options.write_readme:
        write_tables(row)
    return int(is_missed([*row["goals"], *row["image_goals"]]))


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="medians are over the rounds")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each load")
    parser.add_argument(
        "--servers", nargs="+", choices=list(peers.PEERS), default=list(peers.PEERS)
    )
    parser.add_argument("--payloads", nargs="+", choices=list(LOADS), default=list(LOADS))
    parser.add_argument("--quick", action="store_true", help="one round of 0.5 s, without Ray")
    parser.add_argument("--write-readme", action="store_true", help="tables and plot into pages")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
        options.servers = [name for name in options.servers if name != "ray"]
    return options


def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Starts the servers, measures them in turn, ends them; one entry per server."""
    results: dict[str, Any] = {}
    with ExitStack() as running:
        analyzer = None if options.quick else _perf_analyzer_venv()
        servers: list[Server] = []
        for name in options.servers:
            try:
                server = _start(name, folder, running)
            except PeerAbsent as absent:
                console.print(f"[yellow]{name} is absent[/]: {absent}", highlight=False)
                results[name] = {"label": peers.LABELS[name], "absent": str(absent), "rounds": []}
            else:
                servers.append(server)
                results[name] = {"label": peers.LABELS[name], "rounds": []}
        _run_rounds(servers, results, options, analyzer)
    for result in results.values():
        result["median"] = medians(result["rounds"])
    return results


def _start(name: str, folder: Path, running: ExitStack) -> Server:
    """A server that has answered correctly once and is paused until its turn comes."""
    own_folder = folder / name
    own_folder.mkdir()
    server = peers.start(name, own_folder)
    running.callback(server.process.stop)
    for model, expected in server.expected.items():
        check_answer(server.address, expected, model)
    # Even idle, Ray takes 9 % of a core: paused servers leave the machine to the one measured.
    server.process.pause()
    return server


def _run_rounds(
    servers: list[Server],
    results: dict[str, Any],
    options: argparse.Namespace,
    analyzer: Path | None,
) -> None:
    """Every server once per round; one that fails is out, with the reason in its result."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("", total=options.rounds * len(servers))
        for number in range(1, options.rounds + 1):
            for server in servers:
                progress.update(task, description=f"round {number}: {server.name}")
                if "absent" not in results[server.name]:
                    try:
                        measures = measure(server, options.payloads, options.seconds, analyzer)
                        results[server.name]["rounds"].append(measures)
                    except (LoadFailed, WrongAnswer, grpc.RpcError, ServerFailed) as failure:
                        results[server.name]["absent"] = f"failed in round {number}: {failure}"
                        console.print(f"[red]{server.name} failed[/]: {failure}", highlight=False)
                progress.advance(task)


def measure(
    server: Server, models: Sequence[str], seconds: float, analyzer: Path | None
) -> Measures:
    """One server's turn: all loads, then its memory; it is paused before and after."""
    server.process.resume()
    try:
        measures: Measures = {}
        for model in models:
            check_answer(server.address, server.expected[model], model)
            for name, value in measure_model(server, model, seconds).items():
                measures[f"{measure_prefix(model)}{name}"] = value
        if MODEL in models and analyzer is not None and server.name in PERF_ANALYZER_SERVERS:
            load = perf_analyzer(analyzer, server.address, PERF_ANALYZER_IN_FLIGHT)
            for name, value in asdict(load).items():
                measures[f"perf_analyzer_{PERF_ANALYZER_IN_FLIGHT}.{name}"] = value
        measures["pss_mb"] = server.process.pss_bytes() / MB
        return {name: round(value, 3) for name, value in measures.items()}
    finally:
        server.process.pause()


def measure_model(server: Server, model: str, seconds: float) -> Measures:
    """All loads of one payload, and how far memory went beyond what it was before them."""
    message = infer_request(model).SerializeToString()
    server.process.reset_rss_peak()
    before = server.process.rss_bytes()
    h2load(server.address, message, WARM_UP_IN_FLIGHT, WARM_UP_S)
    paths = codec_paths(server.metrics)
    measures: Measures = {}
    for in_flight in LOADS[model]:
        for name, value in _one_load(server, model, message, in_flight, seconds).items():
            measures[f"h2load_{in_flight}.{name}"] = value
    for path, count in codec_paths(server.metrics).items():
        measures[f"h2load.codec_{path}"] = count - paths.get(path, 0)
    measures["peak_growth_mb"] = (server.process.rss_peak_bytes() - before) / MB
    return measures


def _one_load(
    server: Server, model: str, message: bytes, in_flight: int, seconds: float
) -> dict[str, float]:
    """One h2load run with the server's CPU time; raises LoadFailed if a gRPC status was not OK."""
    successes = server.settled_successes(model)
    cpu_s = server.cpu_s()
    load = h2load(server.address, message, in_flight, seconds)
    successes = server.settled_successes(model) - successes
    cpu_s = server.cpu_s() - cpu_s
    # Calls in flight when the time is up are answered by the server, but not awaited by h2load.
    if not load.requests <= successes <= load.requests + in_flight:
        raise LoadFailed(f"{load.requests} HTTP answers, but {successes} gRPC successes")
    return {**asdict(load), "cpu_us_per_request": cpu_s * 1e6 / successes}


def medians(rounds: list[Measures]) -> Measures:
    """The median of every measure over the rounds."""
    names = rounds[0] if rounds else {}
    return {name: median(measures[name] for measures in rounds) for name in names}


def _perf_analyzer_venv() -> Path | None:
    """Where perf_analyzer is installed; None, with a message, if it cannot run here."""
    try:
        venv = venv_for("perf_analyzer")
        perf_analyzer_version(venv)
        return venv
    except (PeerAbsent, LoadFailed) as absent:
        console.print(f"[yellow]perf_analyzer is absent[/]: {absent}", highlight=False)
        return None


def reports(row: dict[str, Any]) -> dict[str, str]:
    """By the name of its block: the short table, and that of the other payloads, if measured."""
    measured = row["settings"]["payloads"]
    found = {"serve": markdown(row)} if MODEL in measured else {}
    if set(measured) != {MODEL}:
        found["payloads"] = markdown_payloads(row)
    return found


def write_tables(row: dict[str, Any]) -> None:
    """The short table and the plot into README.md, the other payloads into the benchmarks' page."""
    found = reports(row)
    if "serve" in found:
        plot(row, REPOSITORY / FIGURE)
        table = f"{found['serve']}\n\n![Server CPU, throughput and latency]({FIGURE})"
        write_block(README, "serve", table)
    if "payloads" in found:
        write_block(BENCHMARKS_PAGE, "payloads", found["payloads"])


if __name__ == "__main__":
    run_benchmark(main)
