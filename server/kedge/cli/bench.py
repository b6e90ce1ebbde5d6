"""`kedge bench`: a closed loop of random requests against a running server."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from kedge.cli.client_options import client_options
from kedge.cli.output import Exit, output_option, show_record

if TYPE_CHECKING:
    from kedge.client.load import Load, LoadReport

# Different rows that are sent in turn; enough that no branch predictor learns them.
DIFFERENT_REQUESTS = 1024
NOTE = "The Python client is the limit here, not the server; benchmarks/ has faster clients."


@click.command()
@click.argument("name")
@client_options
@click.option(
    "--concurrency",
    type=click.IntRange(1, 4096),
    default=16,
    show_default=True,
    help="Requests in flight.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="How long to measure.",
)
@click.option(
    "--rows", type=click.IntRange(1), default=1, show_default=True, help="Rows per request."
)
@output_option
@click.pass_context
def bench(context: click.Context, /, name: str, output: str, **options: Any) -> None:
    """Measure model NAME with random requests.

    Exit code 1 if any request failed.
    """
    from kedge.client import KedgeError, connect  # noqa: PLC0415 - imports grpc, 0.1 s
    from kedge.client.load import Load  # noqa: PLC0415
    from kedge.client.samples import random_requests  # noqa: PLC0415

    version = options["model_version"]
    try:
        with connect(options["address"], options["token"], options["timeout_s"]) as client:
            metadata = client.metadata(name, version)
            payloads = random_requests(
                metadata, version, options["rows"], DIFFERENT_REQUESTS, seed=0
            )
    except KedgeError as error:
        raise click.ClickException(str(error)) from None
    report = _run(
        Load(
            address=options["address"],
            token=options["token"],
            payloads=payloads,
            concurrency=options["concurrency"],
            seconds=options["seconds"],
            timeout_s=options["timeout_s"],
        )
    )
    record = asdict(report)
    if output == "table":
        record["errors"] = ", ".join(f"{n} {status}" for status, n in report.errors.items()) or 0
    show_record(record, output)
    click.echo(NOTE, err=True)
    context.exit(Exit.FAILED if report.errors or not report.requests else Exit.OK)


def _run(load: Load) -> LoadReport:
    """The load, with a progress bar on stderr if that is a terminal."""
    from rich.console import Console  # noqa: PLC0415 - 40 ms that --help must not pay
    from rich.progress import Progress  # noqa: PLC0415

    from kedge.client.load import run_load  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("measuring", total=1.0)
        return run_load(
            load,
            lambda share, requests: progress.update(
                task, completed=share, description=f"{requests} requests"
            ),
        )
