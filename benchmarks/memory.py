"""Does Kedge's memory stay where it is: over a million requests, and when far too much comes?

Growth: resident memory before and after 1,000,000 requests. Expected: under 5 MB. Flood: 300
requests of 4 MiB at once, 1.2 GB in all, on one connection and on 30. Expected: the peak stays
under what may be on its way at once, 100 messages per connection, each held by the front and as
bytes in Python, plus one batch in and out of the model. The queue's own bound of 256 MiB is inside
that; the front, which holds whole messages, has none over all connections.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import peers
from _harness import REPOSITORY, append_result, console
from _load import h2load_count
from _processes import ending_on_signals
from _wire import check_answer, infer_request, success_count
from rich.progress import track

GROWTH_MB_MAX = 5.0
CHUNKS = 10
WARM_REQUESTS = 100_000
FLOOD_REQUESTS = 300
FLOODS = {"one_connection": (1, 300), "30_connections": (30, 10)}
FRONT_STREAMS_MAX = 100
MESSAGE_MIB = 4
MIB = 1024 * 1024
# Eight rows of 4 MiB: the batch's buffer, and the requests that it was made of.
BATCH_MIB = 2 * 8 * 4


def main() -> int:
    """Measures, prints and keeps both results; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the growth part")
    requests = parser.parse_args().requests
    with ending_on_signals(), tempfile.TemporaryDirectory(prefix="kedge-") as folder:
        row = {
            "growth": measure_growth(Path(folder), requests),
            **{
                name: measure_flood(Path(folder, name), connections, streams)
                for name, (connections, streams) in FLOODS.items()
            },
        }
    path = append_result("memory", row)
    growth = row["growth"]
    console.print(
        f"{requests:,} requests: {growth['growth_mb']:+.2f} MB of {growth['rss_mb'][0]:.0f} MB, "
        f"goal under {GROWTH_MB_MAX:g} MB: {_verdict(growth['reached'])}"
    )
    for name in FLOODS:
        flood = row[name]
        console.print(
            f"{FLOOD_REQUESTS} requests of 4 MiB, {name}: {flood['answered']} answered, "
            f"{flood['refused']} refused, peak {flood['peak_growth_mib']:+.0f} MiB, goal under "
            f"{flood['bound_mib']} MiB: {_verdict(flood['reached'])}"
        )
    console.print(f"added to {path.relative_to(REPOSITORY)}")
    return 0 if all(part["reached"] for part in row.values()) else 1


def measure_growth(folder: Path, requests: int) -> dict[str, Any]:
    """Resident memory of a server after each tenth of the requests, the first after warm-up."""
    with peers.running_kedge(folder / "growth") as server:
        message = infer_request().SerializeToString()
        h2load_count(server.address, message, WARM_REQUESTS, connections=8, streams=8)
        rss_mb = [server.process.rss_bytes() / 1e6]
        successes = success_count(server.address)
        for _ in track(range(CHUNKS), f"{requests:,} requests", console=console):
            h2load_count(server.address, message, requests // CHUNKS, connections=8, streams=8)
            rss_mb.append(server.process.rss_bytes() / 1e6)
        successes = success_count(server.address) - successes
        check_answer(server.address, server.expected)
    growth_mb = rss_mb[-1] - rss_mb[0]
    return {
        "successes": successes,
        "rss_mb": [round(value, 2) for value in rss_mb],
        "growth_mb": round(growth_mb, 2),
        "reached": growth_mb < GROWTH_MB_MAX and successes == requests // CHUNKS * CHUNKS,
    }


def measure_flood(folder: Path, connections: int, streams: int) -> dict[str, Any]:
    """The kernel's own peak of resident memory while all large requests come at once."""
    in_front = min(FLOOD_REQUESTS, connections * FRONT_STREAMS_MAX)
    # Twice: the front's own buffer, and the bytes handed to Python, queued or refused.
    bound_mib = BATCH_MIB + 2 * in_front * MESSAGE_MIB
    with peers.running_kedge(folder, "large") as server:
        message = infer_request("large").SerializeToString()
        check_answer(server.address, server.expected, "large")
        server.process.reset_rss_peak()
        before, successes = server.process.rss_bytes(), success_count(server.address, "large")
        load = h2load_count(server.address, message, FLOOD_REQUESTS, connections, streams)
        answered = success_count(server.address, "large") - successes
        peak_mib = (server.process.rss_peak_bytes() - before) / MIB
        check_answer(server.address, server.expected, "large")
    return {
        "answered": answered,
        "refused": load.requests - answered,
        "peak_growth_mib": round(peak_mib, 1),
        "bound_mib": bound_mib,
        "reached": peak_mib < bound_mib and load.requests == FLOOD_REQUESTS,
    }


def _verdict(reached: bool) -> str:
    return "reached" if reached else "missed"


if __name__ == "__main__":
    sys.exit(main())
