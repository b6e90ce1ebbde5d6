"""Does Kedge's memory stay where it is: over a million requests, when far too much comes, when a
model hangs?

Growth: resident memory of all processes before and after 1,000,000 requests. Expected: under 5 MB.
Flood: 300 requests of 4 MiB at once, 1.2 GB in all, on one connection and on 30. Hang: the same at
a model that never answers, each request with a deadline of 5 s. Expected: the peak stays under what
may be on its way at once, 100 messages per connection, each held by the front and as bytes in
Python, plus the batches in and out of the model. The queue's own bound of 256 MiB is inside that;
the front, which holds whole messages, has none over all connections. Each inline and in a worker
process; a model that hangs is only ever in a worker.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from shutil import copyfile
from typing import Any

from _checks import Check, check_table, exit_code
from _harness import (
    BENCHMARKS_PAGE,
    console,
    how,
    keep_result,
    replace_block,
    result_row,
    run_benchmark,
    show,
    write_block,
)
from _kedge import Endpoint, running_kedge, serve_endpoints, torchscript_endpoints
from _load import h2load_count
from _processes import ending_on_signals
from _servers import Server
from _wire import MODEL, MODELS, check_answer, infer_request
from peers import SERVERS
from rich.progress import track

GROWTH_MB_MAX = 5.0
CHUNKS = 10
WARM_SHARE = 0.1
PLACEMENTS = ("inline", "workers")
LARGE, HANGING = "large", "hanging"
FLOOD_REQUESTS = 300
FLOODS = {"one connection": (1, 300), "30 connections": (30, 10)}
FRONT_STREAMS_MAX = 100
HANG_DEADLINE_MS = 5_000
MESSAGE_MIB = 4
MIB = 1024 * 1024
# A batch of eight rows of 4 MiB: its buffer, and the requests that it was made of.
BATCH_MIB = 2 * 8 * MESSAGE_MIB
# A worker has two batches, in memory that both processes map: it counts twice.
BATCHES_MIB = {"inline": BATCH_MIB, "workers": 2 * 2 * BATCH_MIB}


def main() -> int:
    """Measures, shows and keeps the results; 1 if a goal is missed."""
    options = parse_options()
    if options.write_readme:
        replace_block(BENCHMARKS_PAGE.read_text(), "memory", "")
    growth: dict[str, Any] = {}
    floods: list[dict[str, Any]] = []
    with ending_on_signals(), tempfile.TemporaryDirectory(prefix="kedge-") as folder:
        for placement in options.placements:
            own_folder = Path(folder, f"growth-{placement}")
            growth[placement] = measure_growth(own_folder, placement, options.requests)
        for text, (connections, streams) in FLOODS.items():
            for placement in options.placements:
                with console.status(f"flood, {placement}, {text}"):
                    server = running_kedge(Path(folder, f"{placement}-{text}"), [LARGE], placement)
                    found = measure_flood(server, LARGE, placement, connections, streams)
                floods.append({"case": f"flood, {placement}", "from": text, **found})
            if "workers" in options.placements:
                with console.status(f"hang, {text}"):
                    hanging = running_hanging(Path(folder, f"hanging-{text}"))
                    found = measure_flood(hanging, HANGING, "workers", connections, streams)
                floods.append({"case": "hang, workers", "from": text, **found})
    checks = goals(growth, floods)
    found = {"requests": options.requests, "growth": growth, "floods": floods}
    row = result_row("memory", {**found, "checks": [check.row() for check in checks]})
    report = markdown(row, checks)
    show(report)
    keep_result(row, options.quick)
    if options.write_readme:
        write_block(BENCHMARKS_PAGE, "memory", report)
    return exit_code(checks)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the growth part")
    parser.add_argument("--placements", nargs="+", choices=PLACEMENTS, default=PLACEMENTS)
    parser.add_argument("--quick", action="store_true", help="100,000 requests")
    parser.add_argument("--write-readme", action="store_true", help="table into the page")
    options = parser.parse_args()
    if options.quick:
        options.requests = 100_000
    return options


@contextmanager
def running_hanging(folder: Path) -> Iterator[Server]:
    """Kedge with a model that hangs in a worker, and a good one inline; ended with the block."""
    endpoints, program = folder / "endpoints", folder / "model.py"
    endpoints.mkdir(parents=True)
    copyfile(SERVERS / "hanging.py", program)
    endpoint = Endpoint(HANGING, str(program), MODELS[HANGING], "workers", {"compile": "none"})
    (endpoints / f"{HANGING}.yaml").write_text(endpoint.document())
    expected = torchscript_endpoints(endpoints, [MODEL])
    server = serve_endpoints(endpoints, folder, expected, "kedge", "--allow-model-code")
    try:
        yield server
    finally:
        server.process.stop()


def measure_growth(folder: Path, placement: str, requests: int) -> dict[str, Any]:
    """Resident memory of a server after each tenth of the requests, the first after warm-up."""
    with running_kedge(folder, [MODEL], placement) as server:
        message = infer_request().SerializeToString()
        warm_requests = round(requests * WARM_SHARE)
        h2load_count(server.address, message, warm_requests, connections=8, streams=8)
        rss_mb = [server.process.rss_bytes() / 1e6]
        successes = server.successes(MODEL)
        for _ in track(range(CHUNKS), f"{requests:,} requests, {placement}", console=console):
            h2load_count(server.address, message, requests // CHUNKS, connections=8, streams=8)
            rss_mb.append(server.process.rss_bytes() / 1e6)
        successes = server.successes(MODEL) - successes
        check_answer(server.address, server.expected[MODEL])
    return {
        "successes": successes,
        "failures": requests // CHUNKS * CHUNKS - successes,
        "rss_mb": [round(value, 2) for value in rss_mb],
        "growth_mb": round(rss_mb[-1] - rss_mb[0], 2),
    }


def measure_flood(
    running: AbstractContextManager[Server],
    model: str,
    placement: str,
    connections: int,
    streams: int,
) -> dict[str, Any]:
    """The kernel's own peak of resident memory while all large requests come at once.

    running: has the server, whose good model must answer before and after.
    """
    in_front = min(FLOOD_REQUESTS, connections * FRONT_STREAMS_MAX)
    with running as server:
        good = next(iter(server.expected))
        check_answer(server.address, server.expected[good], good)
        message = infer_request(model).SerializeToString()
        deadline_ms = HANG_DEADLINE_MS if model == HANGING else 0
        server.process.reset_rss_peak()
        before, successes = server.process.rss_bytes(), server.successes(model)
        load = h2load_count(
            server.address, message, FLOOD_REQUESTS, connections, streams, deadline_ms
        )
        answered = server.successes(model) - successes
        peak_mib = (server.process.rss_peak_bytes() - before) / MIB
        check_answer(server.address, server.expected[good], good)
        after_mib = (server.process.rss_bytes() - before) / MIB
    return {
        "answered": answered,
        "refused": load.requests - answered,
        "unanswered": FLOOD_REQUESTS - load.requests,
        "peak_growth_mib": round(peak_mib, 1),
        "after_mib": round(after_mib, 1),
        # Twice: the front's own buffer, and the bytes handed to Python, queued or refused.
        "bound_mib": BATCHES_MIB[placement] + 2 * in_front * MESSAGE_MIB,
    }


def goals(growth: dict[str, Any], floods: list[dict[str, Any]]) -> list[Check]:
    """Memory, and that nothing was lost on the way."""
    checks = []
    for placement, part in growth.items():
        checks.append(Check(f"growth, {placement}", part["growth_mb"], GROWTH_MB_MAX, "MB"))
        checks.append(Check(f"not answered meanwhile, {placement}", part["failures"], 0))
    for flood in floods:
        text = f"peak, {flood['case']}, {flood['from']}"
        checks.append(Check(text, flood["peak_growth_mib"], flood["bound_mib"], "MiB"))
    lost = sum(flood["unanswered"] for flood in floods)
    checks.append(Check("flood requests without an answer or a refusal", lost, 0))
    return checks


def markdown(row: dict[str, Any], checks: list[Check]) -> str:
    """The goals, then what became of the floods' requests."""
    lines = [
        f"| {FLOOD_REQUESTS} requests of 4 MiB | from | answered | refused or timed out "
        "| MiB more after it |",
        "|---|---|--:|--:|--:|",
    ]
    for flood in row["floods"]:
        lines.append(
            f"| {flood['case']} | {flood['from']} | {flood['answered']} | {flood['refused']} "
            f"| {flood['after_mib']:.0f} |"
        )
    settings = f"{row['requests']:,} requests of 128 bytes for the growth"
    return "\n\n".join([check_table(checks), "\n".join(lines), how(row, settings)])


if __name__ == "__main__":
    run_benchmark(main)
