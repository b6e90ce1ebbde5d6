"""What does one request cost, and how long does it take, next to other servers?

Kedge with an inline MLP against a grpc.aio echo, Triton's python backend and Ray Serve's own gRPC
ingress, one after the other in every round, same request. Expected: server CPU at 64 in flight at
most 1/3 of Triton's and 1/8 of grpc.aio's, p50 with one in flight at most 0.6 of Triton's, and at
least twice Triton's throughput in perf_analyzer at 16 in flight.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import peers
from _harness import REPOSITORY, append_result, console, last_result, replace_block
from _load import (
    CONNECTIONS_AND_STREAMS,
    LoadFailed,
    h2load,
    h2load_version,
    perf_analyzer,
    perf_analyzer_version,
)
from _metrics import codec_paths
from _plot import plot
from _processes import ServerFailed, ending_on_signals
from _report import goal_rows, markdown
from _venvs import PeerAbsent, venv_for
from _wire import WrongAnswer, check_answer, infer_request, success_count
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

PERF_ANALYZER_IN_FLIGHT = 16
PERF_ANALYZER_SERVERS = frozenset({"kedge", "triton"})
WARM_UP_S = 0.5
README = REPOSITORY / "README.md"
FIGURE = "docs/img/bench_serve.svg"

Measures = dict[str, float]


def main() -> int:
    """Runs the comparison; 2 if it cannot be run at all."""
    options = parse_options()
    if h2load_version() is None:
        console.print("h2load is missing: apt-get install nghttp2-client")
        return 2
    if options.write_readme:
        # Before minutes of measuring: raises if README.md has no place for the table.
        replace_block(README.read_text(), "serve", "")
    with ending_on_signals(), tempfile.TemporaryDirectory(prefix="kedge-") as folder:
        servers = compare(options, Path(folder))
    row = {
        "settings": {"rounds": options.rounds, "seconds": options.seconds},
        "load_tool": h2load_version(),
        "servers": servers,
        "goals": goal_rows(servers),
    }
    path = append_result("serve", row)
    row = last_result("serve")
    report = markdown(row)
    console.print(Markdown(report) if console.is_terminal else report, soft_wrap=True)
    console.print(f"added to {path.relative_to(REPOSITORY)}")
    if options.write_readme:
        write_readme(row)
    return 0


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="medians are over the rounds")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each load")
    parser.add_argument(
        "--servers", nargs="+", choices=list(peers.PEERS), default=list(peers.PEERS)
    )
    parser.add_argument("--write-readme", action="store_true", help="table and plot into README")
    return parser.parse_args()


def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Starts the servers, measures them in turn, ends them; one entry per server."""
    results: dict[str, Any] = {}
    with ExitStack() as running:
        analyzer = _perf_analyzer_venv()
        servers: list[peers.Server] = []
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


def _start(name: str, folder: Path, running: ExitStack) -> peers.Server:
    """A server that has answered correctly once and is paused until its turn comes."""
    own_folder = folder / name
    own_folder.mkdir()
    server = peers.start(name, own_folder)
    running.callback(server.process.stop)
    check_answer(server.address, server.expected)
    # Even idle, Ray takes 9 % of a core: paused servers leave the machine to the one measured.
    server.process.pause()
    return server


def _run_rounds(
    servers: list[peers.Server],
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
                        measures = measure(server, options.seconds, analyzer)
                        results[server.name]["rounds"].append(measures)
                    except (LoadFailed, WrongAnswer, grpc.RpcError, ServerFailed) as failure:
                        results[server.name]["absent"] = f"failed in round {number}: {failure}"
                        console.print(f"[red]{server.name} failed[/]: {failure}", highlight=False)
                progress.advance(task)


def measure(server: peers.Server, seconds: float, analyzer: Path | None) -> Measures:
    """One server's turn: all loads, then its memory; it is paused before and after."""
    server.process.resume()
    try:
        check_answer(server.address, server.expected)
        message = infer_request().SerializeToString()
        h2load(server.address, message, 64, WARM_UP_S)
        paths = codec_paths(server.metrics)
        measures: Measures = {}
        for in_flight in CONNECTIONS_AND_STREAMS:
            for name, value in _one_load(server, message, in_flight, seconds).items():
                measures[f"h2load_{in_flight}.{name}"] = value
        for path, count in codec_paths(server.metrics).items():
            measures[f"h2load.codec_{path}"] = count - paths.get(path, 0)
        if analyzer is not None and server.name in PERF_ANALYZER_SERVERS:
            load = perf_analyzer(analyzer, server.address, PERF_ANALYZER_IN_FLIGHT)
            for name, value in asdict(load).items():
                measures[f"perf_analyzer_{PERF_ANALYZER_IN_FLIGHT}.{name}"] = value
        measures["pss_mb"] = server.process.pss_bytes() / 1e6
        return {name: round(value, 3) for name, value in measures.items()}
    finally:
        server.process.pause()


def _one_load(
    server: peers.Server, message: bytes, in_flight: int, seconds: float
) -> dict[str, float]:
    """One h2load run with the server's CPU time; raises LoadFailed if a gRPC status was not OK."""
    cpu_s, successes = server.cpu_s(), success_count(server.address)
    load = h2load(server.address, message, in_flight, seconds)
    cpu_s, successes = server.cpu_s() - cpu_s, success_count(server.address) - successes
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


def write_readme(row: dict[str, Any]) -> None:
    """Puts the table into README.md and the plot beside the documents."""
    plot(row, REPOSITORY / FIGURE)
    table = f"{markdown(row)}\n\n![Server CPU, throughput and latency]({FIGURE})"
    README.write_text(replace_block(README.read_text(), "serve", table))


if __name__ == "__main__":
    sys.exit(main())
