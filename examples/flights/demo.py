"""Trains if needed, serves, sends flights through a stock client, and shows what happens."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
from data import FEATURES, Flights, load_flights, training_split
from kedge_process import ServerFailed, serving
from rich.console import Console
from rich.table import Table
from scores import score_table
from traffic import ENDPOINT, VERSIONS, Traffic, send
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException
from view import LineView, MonthlyScores, TerminalView, summary

HERE = Path(__file__).resolve().parent
YAML = HERE / "flights.yaml"
METRICS = HERE / "models" / "metrics.json"
NS_PER_US = 1_000
IN_FLIGHT = 16
FLIGHTS_ALONE = 1_000  # one request at a time: the latency without other requests in the way


@click.command()
@click.option("--flights", "count", default=40_000, show_default=True, help="How many to send.")
def main(count: int) -> None:
    """Serve the flight-delay model and send it the flights of April to December 2013."""
    console = Console(highlight=False)
    if not METRICS.exists():
        subprocess.run([sys.executable, str(HERE / "train.py")], check=True)
    flights = sample(training_split(load_flights())[2], count)
    traffic, alone = Traffic(flights, IN_FLIGHT), Traffic(sample(flights, FLIGHTS_ALONE), 1)
    console.print(f"Starting kedge serve {_shown(YAML)} ...")
    try:
        with serving(YAML) as addresses:
            console.print("Ready:", ", ".join(f"{name} {at}" for name, at in addresses.items()))
            console.print(
                f"Sending {len(flights):,} real flights to versions {' and '.join(VERSIONS)}"
            )
            _replay(addresses["grpc"], traffic, console)
            statistics = batching_table(addresses["grpc"])
            asyncio.run(send(addresses["grpc"], alone, watch=lambda: None))
    except (ServerFailed, InferenceServerException) as error:
        raise click.ClickException(str(error)) from None
    console.print(score_table("Flights of 2013 as predicted", MonthlyScores(traffic).rows()))
    console.print("As the client saw it, which here is Python too and takes most of the time:")
    console.print(f"{summary(traffic)}\n{summary(alone)}\n", soft_wrap=True)
    console.print(statistics)
    console.print("Server drained and ended with exit code 0.\n")
    console.print(what_next(flights), markup=False, soft_wrap=True)


def sample(flights: Flights, count: int) -> Flights:
    """`count` flights, or all if there are fewer, evenly spread and in order."""
    rows = np.linspace(0, len(flights) - 1, min(count, len(flights))).astype(np.int64)
    return flights.where(rows)


def _replay(address: str, traffic: Traffic, console: Console) -> None:
    view = TerminalView if console.is_interactive else LineView
    with view(traffic, console) as shown:
        asyncio.run(send(address, traffic, shown.update))


def batching_table(address: str) -> Table:
    """The server's own statistics (RPC ModelStatistics), one row per version."""
    table = Table(title="What the server counted", box=None, padding=(0, 2, 0, 0))
    for heading in ("version", "requests", "batches", "mean batch", "queued us", "computed us"):
        table.add_column(heading, justify="right")
    with InferenceServerClient(address) as client:
        for model in client.get_inference_statistics(ENDPOINT).model_stats:
            stats = model.inference_stats
            requests = max(stats.success.count, 1)
            table.add_row(
                model.version,
                f"{stats.success.count:,}",
                f"{model.execution_count:,}",
                f"{model.inference_count / max(model.execution_count, 1):.2f}",
                f"{stats.queue.ns / requests / NS_PER_US:.0f}",
                f"{stats.compute_infer.ns / requests / NS_PER_US:.0f}",
            )
    return table


def what_next(flights: Flights) -> str:
    """Commands to try, with a real flight to predict."""
    kedge = _shown(Path(sys.executable).with_name("kedge"))
    measured = flights.features[~np.isnan(flights.features).any(axis=1)]
    row = json.dumps({"features": [[round(float(value), 3) for value in measured[0]]]})
    return "\n".join(
        (
            "Try next:",
            f"  {kedge} serve {_shown(YAML)}    # then, in another terminal:",
            f"  {kedge} predict {ENDPOINT} --input '{row}'",
            f"  {kedge} bench {ENDPOINT}",
            f"  curl localhost:8000/v2/models/{ENDPOINT}",
            "  curl localhost:8002/metrics",
            f"  edit {_shown(YAML)}: set max_batch_size to 1, and see what batching was worth",
            f"The {len(FEATURES)} features are named in {_shown(HERE / 'data.py')}.",
        )
    )


def _shown(path: Path) -> Path:
    """The path as a person would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


if __name__ == "__main__":
    main()
